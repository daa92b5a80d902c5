package mirror

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The subjects. All but klink and MirrorMaker 2 are this binary with a hidden command, see
// floors.go.
const (
	Klink = "klink"
	// Unjoined is klink with append.join.below=0: batches go out one by one.
	Unjoined    = "klink-unjoined"
	MirrorMaker = "mirrormaker2"
	Copy        = "copy"
	Raw         = "raw"
	Relay       = "relay"
)

// Subjects are all subjects, klink first.
func Subjects() []string { return []string{Klink, Unjoined, MirrorMaker, Copy, Raw, Relay} }

// runs reports whether a subject can run a workload. The floors without a Kafka client do not
// support transactions. With thinned batches they could only show the known fact that a broker
// refuses them.
func runs(subject string, w *workload) bool {
	switch subject {
	case Unjoined:
		return w.unjoined
	case Relay:
		if w.destination().away > 0 {
			return false // the relay writes to no cluster
		}
		fallthrough
	case Raw:
		return w.floors && !w.transactions && w.compacted == 0 && w.far == 0
	}
	return true
}

// job is what a subject has to mirror.
type job struct {
	w       *workload
	source  string // address
	sink    string // address, for the relay
	steady  string // topic of the steady phase, "" = none
	src     *cluster
	dst     *cluster
	content *content // of the workload's topic
}

func (j *job) topics() []string {
	topics := []string{j.w.topic()}
	if j.steady != "" {
		topics = append(topics, j.steady)
	}
	return topics
}

// running is a running subject.
type running struct {
	*bench.Process
	// targets are the offsets at which the partitions at the destination end when the subject is
	// done.
	targets []int64
	// gentle: stop the subject with SIGTERM, because it leaves something behind when it is killed.
	gentle bool
	after  func()
}

func (r *running) end() {
	if !r.gentle {
		r.Kill()
	}
	r.Stop()
	if r.after != nil {
		r.after()
	}
}

// launcher starts subjects.
type launcher struct {
	binary string // klink
	dir    string // logs
	lib    string // jars with MirrorMaker 2
}

func (l *launcher) start(ctx context.Context, subject string, run string, j *job) (*running, error) {
	switch subject {
	case Klink:
		return l.klink(ctx, run, j)
	case Unjoined:
		return l.klink(ctx, run, j, linkapi.Config{Name: "append.join.below", Value: kmsg.StringPtr("0")})
	}
	if subject != Relay {
		for _, topic := range j.topics() {
			if err := j.dst.createTopic(ctx, topic, j.w.partitions, map[string]string{"retention.ms": "-1"}); err != nil {
				return nil, err
			}
		}
	}
	if subject == MirrorMaker {
		return l.mirrorMaker(run, j)
	}
	args := []string{"bench", "subject", subject, "--from", j.source, "--to", j.dst.far, "--topics", strings.Join(j.topics(), ","), "--lanes", strconv.Itoa(j.w.rawLanes), "--partition-fetch", strconv.Itoa(j.w.partitionFetch())}
	if subject == Relay {
		args[6] = j.sink
	}
	if j.w.lz4 {
		args = append(args, "--lz4")
	}
	p, err := bench.StartProcess(l.dir, run, nil, l.binary, args...)
	if err != nil {
		return nil, err
	}
	return &running{Process: p, targets: j.dense()}, nil
}

// dense returns the ends of copies whose offsets have no gaps.
func (j *job) dense() []int64 {
	targets := make([]int64, len(j.content.parts))
	for p := range targets {
		targets[p] = j.content.parts[p].records
	}
	return targets
}

const readyTimeout = 60 * time.Second

// portsOfKlink are a port to bootstrap from, and those of at most three brokers.
const portsOfKlink = 4

// serve starts `klink serve` with its default settings and the extra flags in more, and returns the
// address for clients.
func (l *launcher) serve(run, destination string, more ...string) (_ *running, addr string, err error) {
	port, release, err := kafkatest.ReservePorts(portsOfKlink)
	if err != nil {
		return nil, "", err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	p, err := bench.StartProcess(l.dir, run, nil, l.binary, append([]string{"serve", "--destination", destination, "--listen", addr}, more...)...)
	if err != nil {
		release()
		return nil, "", err
	}
	r := &running{Process: p, gentle: true, after: release}
	if err := p.AwaitLog("ready: clients can connect", readyTimeout); err != nil {
		r.end()
		return nil, "", err
	}
	return r, addr, nil
}

// klink starts `klink serve`, and makes a link with configs and its mirrors. As for the other
// subjects, the topics exist before.
func (l *launcher) klink(ctx context.Context, run string, j *job, configs ...linkapi.Config) (_ *running, err error) {
	r, addr, err := l.serve(run, j.dst.far)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.end()
		}
	}()
	if r.targets = j.dense(); j.w.transactions {
		r.targets = j.content.ends // klink's markers take the place of the source's
	}
	return r, mirrors(ctx, addr, j.source, j.dst, j.w.partitions, j.topics(), configs...)
}

// mirrors makes a link, and mirrors of its topics, through klink.
func mirrors(ctx context.Context, klink, source string, dst *cluster, partitions int, topics []string, configs ...linkapi.Config) error {
	// A request that makes many mirrors takes longer than a client waits by default, and the client
	// would repeat it.
	cl, err := kgo.NewClient(kgo.SeedBrokers(klink), kgo.MaxVersions(nil), kgo.RequestTimeoutOverhead(readyTimeout))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := link(ctx, cl, source, configs...); err != nil {
		return err
	}
	// Like `kafka-configs`: turn an empty topic into a mirror.
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, topic := range topics {
		if err := dst.createTopic(ctx, topic, partitions, nil); err != nil {
			return err
		}
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Op, config.Value = "mirror.link", kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(linkName)
		resource.Configs = append(resource.Configs, config)
		alter.Resources = append(alter.Resources, resource)
	}
	err = request(ctx, cl, alter, func(resp *kmsg.IncrementalAlterConfigsResponse) error {
		for _, r := range resp.Resources {
			if r.ErrorCode != 0 {
				return failure(r.ErrorCode, r.ErrorMessage)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make the topics mirrors: %w", err)
	}
	return nil
}

// linkName is the name of the benchmarks' link.
const linkName = "bench"

// link makes the link.
func link(ctx context.Context, cl *kgo.Client, source string, configs ...linkapi.Config) error {
	configs = append(configs, linkapi.Config{Name: "bootstrap.servers", Value: kmsg.StringPtr(source)})
	err := request(ctx, cl, &linkapi.CreateLinksRequest{TimeoutMs: 30_000, Links: []linkapi.CreateLink{{Name: linkName, Configs: configs}}}, func(resp *linkapi.CreateLinksResponse) error {
		for _, r := range resp.Results {
			if r.ErrorCode != 0 {
				return failure(r.ErrorCode, r.ErrorMessage)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create the link: %w", err)
	}
	return nil
}

func request[R kmsg.Response](ctx context.Context, cl *kgo.Client, req kmsg.Request, check func(R) error) error {
	resp, err := cl.Request(ctx, req)
	if err != nil {
		return err
	}
	r, ok := resp.(R)
	if !ok {
		return fmt.Errorf("unexpected response %T", resp)
	}
	return check(r)
}

func failure(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if message != nil {
		err = fmt.Errorf("%w: %s", err, *message)
	}
	return err
}

// peers returns the subjects that this machine cannot run, and why.
func peers() (lib string, absent []bench.Absent) {
	if err := errors.Join(kafkatest.CheckJava(), lookPath("java")); err != nil {
		return "", []bench.Absent{{Subject: MirrorMaker, Why: err.Error()}}
	}
	lib, err := kafkatest.Provision(kafkatest.V431)
	if err == nil {
		var jars []string
		if jars, err = filepath.Glob(filepath.Join(lib, "connect-mirror-*.jar")); err == nil && len(jars) == 0 {
			err = fmt.Errorf("%s has no connect-mirror jar", lib)
		}
	}
	if err != nil {
		return "", []bench.Absent{{Subject: MirrorMaker, Why: err.Error()}}
	}
	return lib, nil
}

func lookPath(program string) error {
	_, err := exec.LookPath(program)
	return err
}
