package kafkatest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// startTimeout is how long a cluster may take to become usable. It allows for a machine whose cores
// are all busy.
const startTimeout = 2 * time.Minute

// Cluster is a running Apache Kafka.
//
// The cluster owns its processes, ports and directory, and they end with it. Clients made by
// [Cluster.Client] end with their test.
type Cluster struct {
	version Version
	id      string // of KRaft clusters
	opts    *options
	dir     string
	lib     string // directory of the jars
	brokers []*Broker
	zk      *zookeeper // only before KRaft
	tls     *certificates
	// plain clusters have no options, and may serve several tests: see pool.go. touched is set once
	// a test has stopped a broker, or could have.
	plain   bool
	touched atomic.Bool
}

// Start runs a KRaft cluster of Apache Kafka 4.3.1 until the end of the test. When the test fails,
// the last lines of the brokers' logs are shown. Without options the cluster may have served other
// tests before, one after another; it has no topic of theirs and no group.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	return startFor(t, V431, opts)
}

// StartOld runs one broker of Apache Kafka 2.4.1 with its ZooKeeper until the end of the test. It
// supports only PLAINTEXT.
func StartOld(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	return startFor(t, V241, opts)
}

// StartRelease runs a release until the end of the test: like [Start], or like [StartOld] for a
// release before KRaft.
func StartRelease(t testing.TB, v Version, opts ...Option) *Cluster {
	t.Helper()
	return startFor(t, v, opts)
}

func startFor(t testing.TB, v Version, opts []Option) *Cluster {
	t.Helper()
	Require(t)
	plain := v == V431 && len(opts) == 0
	var c *Cluster
	if plain {
		c = idleCluster()
	}
	if c == nil {
		var err error
		if c, err = start(v, opts...); err != nil {
			t.Fatal(err)
		}
		c.plain = plain
	}
	t.Cleanup(func() { c.retire(t) })
	c.showLogsOnFailure(t)
	return c
}

// Run runs a release until Stop, for programs that are not tests. The cluster also ends with the
// process. The error says what is missing.
func Run(v Version, opts ...Option) (*Cluster, error) { return start(v, opts...) }

// Stop ends what [Run] has started.
func (c *Cluster) Stop() { c.stop() }

func start(v Version, opts ...Option) (*Cluster, error) {
	lib, err := jars(v)
	if err != nil {
		return nil, err
	}
	return startFrom(lib, v, opts...)
}

// startFrom starts a cluster from the jars of a directory.
func startFrom(lib string, v Version, opts ...Option) (_ *Cluster, err error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if v.old() && (o.brokers != 1 || o.tls() || len(o.scram) > 0 || len(o.listeners) > 0) {
		return nil, fmt.Errorf("kafkatest: Kafka %s is run with one broker only, PLAINTEXT or SASLPlaintext with PLAIN", v)
	}
	c := &Cluster{version: v, opts: o, lib: lib, id: randomUUID()}
	if c.dir, err = ProcessDir("kafka"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if o.certified() {
		if c.tls, err = newCertificates(c.dir); err != nil {
			return nil, err
		}
	}
	for id := 1; id <= o.brokers; id++ {
		b, err := newBroker(c, id)
		if err != nil {
			return nil, err
		}
		c.brokers = append(c.brokers, b)
	}
	if v.old() {
		err = c.prepareZooKeeper()
	} else {
		err = c.prepareKRaft()
	}
	if err != nil {
		return nil, err
	}
	for _, b := range c.brokers {
		if err := b.spawn(); err != nil {
			return nil, err
		}
	}
	for _, b := range c.brokers {
		if err := b.awaitReady(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Bootstrap returns the addresses of all brokers, as bootstrap.servers takes them.
func (c *Cluster) Bootstrap() string {
	return strings.Join(c.seeds(), ",")
}

func (c *Cluster) seeds() []string {
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// Brokers are the nodes in the order of their ids, which start at 1.
func (c *Cluster) Brokers() []*Broker { return c.brokers }

// Version is the release that runs.
func (c *Cluster) Version() Version { return c.version }

// stop kills everything and removes the data. The data is not worth a clean shutdown.
func (c *Cluster) stop() {
	var wg sync.WaitGroup
	for _, b := range c.brokers {
		wg.Go(b.close)
	}
	wg.Wait()
	c.zk.close()
	_ = os.RemoveAll(c.dir)
}

func (c *Cluster) showLogsOnFailure(t testing.TB) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, b := range c.brokers {
			t.Logf("broker %d at %s, end of its log:\n%s", b.id, b.addr, TailFile(b.logPath(), 40))
		}
	})
}

// ready returns nil if the broker at addr serves metadata that lists as many brokers as are running
// now.
func (c *Cluster) ready(ctx context.Context, addr string) error {
	cl, err := kgo.NewClient(append(c.superOpts(), kgo.SeedBrokers(addr), kgo.DialTimeout(2*time.Second))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // no topics; null would be all
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return err
	}
	meta := resp.(*kmsg.MetadataResponse)
	running := 0
	for _, b := range c.brokers {
		if b.running() {
			running++
		}
	}
	if len(meta.Brokers) < running || meta.ControllerID < 0 {
		return fmt.Errorf("%d of %d brokers registered, controller %d", len(meta.Brokers), running, meta.ControllerID)
	}
	return nil
}

// ProcessDir makes a temporary directory for the life of this process, called klink-NAME-PID-*. It
// also removes those of the same name whose process is gone, because a killed test binary leaves
// them behind. The caller removes the directory at the end.
func ProcessDir(name string) (string, error) {
	prefix := "klink-" + name + "-"
	if old, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*-*")); err == nil {
		for _, dir := range old {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
			if n, err := strconv.Atoi(pid); err == nil && !alive(n) {
				_ = os.RemoveAll(dir)
			}
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-*", prefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("kafkatest: %w", err)
	}
	return dir, nil
}
