package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// dials records which addresses a client connects to.
type dials struct {
	header string // sent first on each connection

	mu    sync.Mutex
	addrs map[string]bool
}

// dialer returns a dialer that records. config nil = plaintext. Every name leads to 127.0.0.1.
func (d *dials) dialer(config *tls.Config) kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		d.mu.Lock()
		if d.addrs == nil {
			d.addrs = map[string]bool{}
		}
		d.addrs[addr] = true
		d.mu.Unlock()
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(conn, d.header); err != nil {
			conn.Close()
			return nil, err
		}
		if config == nil {
			return conn, nil
		}
		named := config.Clone()
		named.ServerName = host
		secure := tls.Client(conn, named)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	})
}

func (d *dials) all() (addrs []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for a := range d.addrs {
		addrs = append(addrs, a)
	}
	slices.Sort(addrs)
	return addrs
}

// trusting returns a configuration that trusts the authority of a cluster.
func trusting(t *testing.T, caFile string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool}
}

// worksThrough produces to each partition of a topic and reads it all in a group, through
// bootstrap, and fails the test unless it reads what it wrote.
func worksThrough(t *testing.T, topic, group, bootstrap string, partitions int32, opts ...kgo.Opt) {
	t.Helper()
	opts = append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, opts...)
	producer := kafkatest.NewClient(t, append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	want := map[string]bool{}
	for p := range partitions {
		value := fmt.Sprint(group, " ", p)
		want[value] = true
		kafkatest.Produce(t, producer, topic, p, &kgo.Record{Value: []byte(value)})
	}
	consumer := kafkatest.NewClient(t, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	kafkatest.WaitFor(t, readyTimeout, "all records of "+group, func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
		defer cancel()
		fetches := consumer.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) { delete(want, string(r.Value)) })
		return len(want) == 0, fmt.Sprint(want, fetches.Errors())
	})
}

// TestTwoListeners: a plaintext listener for inside and a TLS listener for outside lead to the same
// brokers. A client stays on its side through metadata, groups, and a broker that restarts.
func TestTwoListeners(t *testing.T) {
	t.Parallel()
	const brokers, topic = 3, "listened"
	destination := kafkatest.Start(t, kafkatest.Brokers(brokers), kafkatest.SSL())
	cert, key := destination.ServerCertificate()
	base := kafkatest.FreePorts(t, 20)
	inside, outside := base, base+10
	k := StartKlink(t, destination,
		"--listen", fmt.Sprintf("internal=127.0.0.1:%d,external=0.0.0.0:%d", inside, outside),
		"--advertise", "external=localhost", "--broker-ports", fmt.Sprintf("external=%d-%d", outside+5, outside+9),
		"--tls-cert-file", "external="+cert, "--tls-key-file", "external="+key, "--tls-min-version", "external=TLSv1.3")
	kafkatest.CreateTopic(t, destination.Client(t), topic, brokers, brokers, nil)
	secure := trusting(t, destination.CAFile())
	secure.NextProtos = []string{"http/1.1"} // klink ignores ALPN
	sides := []struct {
		name, bootstrap, host string
		brokers               int
		config                *tls.Config
		dials                 dials
	}{
		{name: "inside", bootstrap: fmt.Sprintf("127.0.0.1:%d", inside), host: "127.0.0.1", brokers: inside + 1},
		{name: "outside", bootstrap: fmt.Sprintf("localhost:%d", outside), host: "localhost", brokers: outside + 5, config: secure},
	}
	all := func(when string) {
		t.Helper()
		for i := range sides {
			s := &sides[i]
			worksThrough(t, topic, s.name+" "+when, s.bootstrap, brokers, s.dials.dialer(s.config))
			want := []string{s.bootstrap}
			for n := range brokers {
				want = append(want, fmt.Sprintf("%s:%d", s.host, s.brokers+n))
			}
			slices.Sort(want)
			if got := s.dials.all(); !slices.Equal(got, want) {
				t.Errorf("%s, %s: the client has connected to %v, want %v", s.name, when, got, want)
			}
		}
	}
	all("at first")
	long := make([]*kgo.Client, len(sides)) // clients that live through it all
	for i := range sides {
		long[i] = kafkatest.NewClient(t, kgo.SeedBrokers(sides[i].bootstrap), sides[i].dials.dialer(sides[i].config), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		kafkatest.Produce(t, long[i], topic, 0, &kgo.Record{Value: []byte("before")})
	}
	destination.Brokers()[1].Restart(t)
	for i := range sides {
		long[i].ForceMetadataRefresh()
		for p := range int32(brokers) {
			kafkatest.Produce(t, long[i], topic, p, &kgo.Record{Value: []byte("after")})
		}
	}
	all("after a broker restarted")
	k.Restart()
	for i := range sides {
		for p := range int32(brokers) {
			kafkatest.Produce(t, long[i], topic, p, &kgo.Record{Value: []byte("after klink")})
		}
	}
	all("after klink restarted")

	// Nobody gets from one side to the other: outside there is no plaintext, and no TLS 1.2.
	if _, err := kafkatest.JavaTool(t, "", kafkatest.BrokerAPIVersions, "--bootstrap-server", sides[0].bootstrap); err != nil {
		t.Errorf("a Java client inside: %v", err)
	}
	properties := destination.PropertiesFile(t, kafkatest.SuperUser, "")
	if _, err := kafkatest.JavaTool(t, "", kafkatest.BrokerAPIVersions, "--bootstrap-server", sides[1].bootstrap, "--command-config", properties); err != nil {
		t.Errorf("a Java client outside: %v", err)
	}
	old := secure.Clone()
	old.MaxVersion, old.ServerName = tls.VersionTLS12, "localhost"
	if conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", outside), old); err == nil {
		conn.Close()
		t.Error("klink takes TLS 1.2 where TLS 1.3 is the oldest")
	}
	if log := k.Log(t); !strings.Contains(log, "listener=external") {
		t.Errorf("no listener in the log:\n%s", log)
	}
}
