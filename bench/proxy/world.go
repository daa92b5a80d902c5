package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"klink/bench"
	"klink/bench/wire"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The subjects of the proxy benchmark.
const (
	Direct  = "direct"  // no proxy
	Klink   = "klink"   // `klink serve`
	HAProxy = "haproxy" // TCP mode; with TLS it decrypts and encrypts again, as klink has to
	RelayOf = "relay"   // [Relay]; with TLS it passes on what it cannot read
)

// Other is `klink serve` of another build, to measure klink before and after a change, interleaved.
const Other = "other"

// subjectsOf returns the subjects that the options allow.
func subjectsOf(o *bench.Options) []string {
	names := []string{Direct, Klink, HAProxy, RelayOf}
	if o.Other != "" {
		names = append(names, Other)
	}
	return names
}

// readyTimeout is how long a subject may take to start.
const readyTimeout = 60 * time.Second

// world is one broker and the subjects in front of it. For each subject the broker has a
// listener without TLS and one with TLS, which advertise the subject's address. So a client that
// bootstraps at a subject stays there.
type world struct {
	dir      string
	other    string // program of [Other]
	cluster  *kafkatest.Cluster
	config   *tls.Config // of clients
	release  func()      // of ports
	subjects []*subject
	absent   []bench.Absent
}

// subject is a proxy without or with TLS, or no proxy.
type subject struct {
	name    string
	tls     bool
	world   *world
	listen  string // where clients bootstrap
	broker  string // where the subject finds the broker: the broker's own listener
	front   string // the address that the broker's listener, or klink, advertises
	process *bench.Process
	starts  int
}

// portsPerSubject: klink needs one for bootstrapping and one for its broker.
const portsPerSubject = 2

// newWorld starts a broker. Subjects start when they are needed.
func newWorld(ctx context.Context, dir string, o *bench.Options) (w *world, err error) {
	w = &world{dir: dir, other: o.Other, release: func() {}}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	first, release, err := kafkatest.ReservePorts(2 * portsPerSubject * len(subjectsOf(o)))
	if err != nil {
		return nil, err
	}
	w.release = release
	listeners := []kafkatest.Option{}
	for _, name := range subjectsOf(o) {
		for _, secure := range []bool{false, true} {
			s := &subject{name: name, tls: secure, world: w, listen: local(first)}
			s.front = s.listen
			first += portsPerSubject
			w.subjects = append(w.subjects, s)
			advertised := s.listen
			switch name {
			case Direct:
				advertised = "" // itself
			case Klink, Other:
				// klink reads the broker's own address there, and tells its clients klink's second
				// port.
				advertised, s.front = "", local(first-1)
			}
			listeners = append(listeners, kafkatest.Listener(s.listener(), s.protocol(), advertised))
		}
	}
	w.cluster, err = kafkatest.Run(kafkatest.V431, append(listeners,
		// Run the broker like a server, not as in tests: both compilers, a collector for two cores
		// and many connections.
		kafkatest.Heap("2g"), kafkatest.JVM("-XX:+UseParallelGC", "-XX:-UsePerfData", "-Xlog:disable"),
		kafkatest.Config("log.segment.bytes", "33554432"),
		kafkatest.Config("log.retention.check.interval.ms", "1000"),
		kafkatest.Config("log.segment.delete.delay.ms", "500"),
	)...)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(w.cluster.CAFile())
	if err != nil {
		return nil, err
	}
	w.config = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if !w.config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("the cluster's authority has no certificate")
	}
	for _, s := range w.subjects {
		s.broker = w.cluster.Brokers()[0].ListenerAddr(s.listener())
		if s.name == Direct {
			s.listen, s.front = s.broker, s.broker
		}
	}
	if _, err := exec.LookPath("haproxy"); err != nil && o.WantsSubject(HAProxy) {
		w.absent = append(w.absent, bench.Absent{Subject: HAProxy, Why: "no haproxy in PATH (apt-get install haproxy)"})
	}
	return w, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (w *world) stop() {
	for _, s := range w.subjects {
		s.stop()
	}
	if w.cluster != nil {
		w.cluster.Stop()
	}
	w.release()
}

// present returns the subjects that are available and wanted.
func (w *world) present(o *bench.Options, secure bool) (subjects []*subject) {
	for _, s := range w.subjects {
		missing := false
		for _, a := range w.absent {
			missing = missing || a.Subject == s.name
		}
		if s.tls == secure && o.WantsSubject(s.name) && !missing {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// listener returns the name of the broker's listener behind a subject.
func (s *subject) listener() string {
	if s.tls {
		return strings.ToUpper(s.name) + "TLS"
	}
	return strings.ToUpper(s.name)
}

func (s *subject) protocol() string {
	if s.tls {
		return "SSL"
	}
	return "PLAINTEXT"
}

// client returns the TLS configuration of the subject's clients, nil for plaintext.
func (s *subject) client() *tls.Config {
	if s.tls {
		return s.world.config
	}
	return nil
}

// start starts the subject's process if it does not run, and waits until it serves clients.
func (s *subject) start(ctx context.Context) (err error) {
	if s.name == Direct || s.process != nil {
		return nil
	}
	s.starts++
	name := fmt.Sprintf("%s-%d", strings.ToLower(s.listener()), s.starts)
	cert, key := s.world.cluster.ServerCertificate()
	switch s.name {
	case Klink, Other:
		args := []string{"serve", "--destination", s.broker, "--listen", s.listen, "--max-connections", "0"}
		if s.tls {
			config := filepath.Join(s.world.dir, "destination.properties")
			text := fmt.Sprintf("security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=%s\n", s.world.cluster.CAFile())
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				return err
			}
			args = append(args, "--destination-config", config, "--tls-cert-file", cert, "--tls-key-file", key)
		}
		if s.name == Klink {
			s.process, err = bench.StartSelf(s.world.dir, name, args...)
		} else {
			s.process, err = bench.StartProcess(s.world.dir, name, nil, s.world.other, args...)
		}
		if err == nil {
			err = s.process.AwaitLog("ready: clients can connect", readyTimeout)
		}
	case RelayOf:
		if s.process, err = bench.StartSelf(s.world.dir, name, "bench", "relay", "--listen", s.listen, "--to", s.broker); err == nil {
			err = s.process.AwaitLog("ready", readyTimeout)
		}
	case HAProxy:
		config := filepath.Join(s.world.dir, name+".cfg")
		if err := writeHAProxyConfig(config, s, cert, key); err != nil {
			return err
		}
		s.process, err = bench.StartProcess(s.world.dir, name, nil, "haproxy", "-db", "-f", config)
	}
	if err != nil {
		return err
	}
	return s.await(ctx)
}

// await waits until the subject answers, and checks that a client that asks the subject for the
// broker's address gets the subject's own.
func (s *subject) await(ctx context.Context) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		addr, err := s.leader(ctx)
		if err == nil {
			if addr != s.front {
				return fmt.Errorf("%s: the broker advertises %s to clients instead of %s", s.name, addr, s.front)
			}
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("%s has ended: %s", s.name, s.process.LogTail(20))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready within %v: %w\n%s", s.name, readyTimeout, err, s.process.LogTail(20))
		}
	}
}

// leader asks the subject for the broker's address.
func (s *subject) leader(ctx context.Context) (string, error) {
	c, err := wire.Dial(ctx, s.listen, s.client())
	if err != nil {
		return "", err
	}
	defer c.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(9)
	req.Topics = []kmsg.MetadataRequestTopic{} // null would be all
	resp, err := c.Request(req)
	if err != nil {
		return "", err
	}
	brokers := resp.(*kmsg.MetadataResponse).Brokers
	if len(brokers) != 1 {
		return "", fmt.Errorf("%d brokers", len(brokers))
	}
	return net.JoinHostPort(brokers[0].Host, strconv.Itoa(int(brokers[0].Port))), nil
}

func (s *subject) stop() {
	if s.process != nil {
		s.process.Stop()
		s.process = nil
	}
}

// usage returns what the subject has used so far; zero without a proxy.
func (s *subject) usage() (bench.Usage, error) {
	if s.process == nil {
		return bench.Usage{}, nil
	}
	return s.process.Usage()
}

// createTopic creates a topic with the broker's default configs and waits until it can be used.
func (w *world) createTopic(ctx context.Context, name string, partitions int32) error {
	c, err := wire.Dial(ctx, w.cluster.Bootstrap(), nil)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(5)
	req.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	req.Topics = append(req.Topics, t)
	resp, err := c.Request(req)
	if err == nil {
		for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
			err = errors.Join(err, kerr.ErrorForCode(t.ErrorCode))
		}
	}
	// Metadata names a leader before that broker knows that it leads.
	deadline := time.Now().Add(20 * time.Second)
	for p := int32(0); p < partitions && err == nil; {
		if _, e := wire.End(ctx, w.cluster.Bootstrap(), name, p); e == nil {
			p++
			continue
		} else if time.Now().After(deadline) {
			err = e
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// empty deletes all records of a topic, so that rounds do not fill the disk.
func (w *world) empty(ctx context.Context, topic string, partitions int32) error {
	return deleteRecords(ctx, w.cluster.Bootstrap(), topic, partitions, -1)
}

// deleteRecords deletes the records below an offset in all partitions of a topic; -1 means the high
// watermark.
func deleteRecords(ctx context.Context, addr, topic string, partitions int32, below int64) error {
	c, err := wire.Dial(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.SetVersion(2)
	req.TimeoutMillis = 10_000
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	for i := range partitions {
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = i, below
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	resp, err := c.Request(req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.DeleteRecordsResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("delete records of %s-%d: %w", topic, p.Partition, err)
			}
		}
	}
	return nil
}
