package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func expectRecords(t *testing.T, got []*kgo.Record, want int) {
	t.Helper()
	if len(got) != want {
		t.Fatalf("%d records, want %d", len(got), want)
	}
	for i, r := range got {
		if string(r.Key) != fmt.Sprintf("k%d", i) {
			t.Fatalf("record %d has key %q", i, r.Key)
		}
	}
}

func TestOneBroker(t *testing.T) {
	c := Shared(t, "one")
	cl := c.Client(t)
	CreateTopic(t, cl, "one", 1, 1, map[string]string{"retention.ms": "-1"})
	Produce(t, cl, "one", 0, Records(100, 10)...)
	expectRecords(t, c.ReadAll(t, "one"), 100)

	DeleteRecordsBefore(t, cl, "one", 0, 40)
	got := c.ReadAll(t, "one")
	if len(got) != 60 || got[0].Offset != 40 {
		t.Fatalf("after the deletion: %d records from offset %d, want 60 from 40", len(got), got[0].Offset)
	}
	if Shared(t, "one") != c {
		t.Error("the second call got another cluster")
	}
}

func TestCrashAndRestart(t *testing.T) {
	c := Shared(t, "one")
	cl := c.Client(t)
	CreateTopic(t, cl, "crash", 1, 1, nil)
	Produce(t, cl, "crash", 0, Records(10, 10)...)
	b := c.Brokers()[0]
	b.Kill()
	if b.PID() != 0 {
		t.Error("killed, but has a process id")
	}
	b.Restart(t)
	expectRecords(t, c.ReadAll(t, "crash"), 10)
	b.Stop()
	b.Restart(t)
	expectRecords(t, c.ReadAll(t, "crash"), 10)
}

// A reader finishes on a log that ends in markers, and in offsets that hold nothing.
func TestReadAllTransactions(t *testing.T) {
	c := Shared(t, "one")
	cl := c.Client(t, kgo.TransactionalID("read-all"))
	CreateTopic(t, cl, "txn", 1, 1, nil)
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		Produce(t, cl, "txn", 0, Records(5, 10)...)
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	expectRecords(t, c.ReadAll(t, "txn", kgo.FetchIsolationLevel(kgo.ReadCommitted())), 5)
	if n := len(c.ReadAll(t, "txn")); n != 10 {
		t.Errorf("%d records uncommitted, want 10", n)
	}
}

func TestTools(t *testing.T) {
	c := Shared(t, "one")
	MustTool(t, "", TopicCommand, "--bootstrap-server", c.Bootstrap(), "--create", "--topic", "tools", "--partitions", "2")
	MustTool(t, "a:1\nb:2\n", ConsoleProducer, "--bootstrap-server", c.Bootstrap(), "--topic", "tools",
		"--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
	if n := len(c.ReadAll(t, "tools")); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	out, err := c.Tool(t, TopicCommand, "--bootstrap-server", c.Bootstrap(), "--describe", "--topic", "no-such-topic")
	if err == nil || !strings.Contains(err.Error(), "no-such-topic") {
		t.Errorf("describing no topic: error %v, output %q", err, out)
	}
	consumer := StartTool(t, nil, ConsoleConsumer, "--bootstrap-server", c.Bootstrap(), "--topic", "tools", "--from-beginning")
	WaitFor(t, time.Minute, "the console consumer", func() (bool, string) {
		return strings.Count(consumer.Stdout(), "\n") == 2, consumer.outputs()
	})
	consumer.Kill()
}

func TestOldBroker(t *testing.T) {
	for _, v := range []Version{V241, V282} {
		t.Run(string(v), func(t *testing.T) { oldBroker(t, v) })
	}
}

func oldBroker(t *testing.T, v Version) {
	c := StartRelease(t, v, Config("log.message.format.version", "0.10.2"))
	cl := c.Client(t, kgo.DisableIdempotentWrite()) // which the old format cannot hold
	CreateTopic(t, cl, "old", 1, 1, nil)
	records := Records(10, 10)
	for _, r := range records {
		r.Headers = nil // the old format has none
	}
	Produce(t, cl, "old", 0, records...)
	c.Brokers()[0].Kill()
	c.Brokers()[0].Restart(t)
	expectRecords(t, c.ReadAll(t, "old"), 10)
}

func TestAuthentication(t *testing.T) {
	c := Start(t, SASL("alice", "alice-secret"), Scram("SCRAM-SHA-512", "bob", "bob-secret"))
	CreateTopic(t, c.Client(t), "secret", 1, 1, nil)

	ping := func(opts ...kgo.Opt) error {
		opts = append(opts, kgo.SeedBrokers(c.seeds()...), kgo.RequestRetries(0))
		cl := NewClient(t, opts...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
		return err
	}
	for _, user := range []string{"alice", "bob"} {
		if err := ping(c.ClientOpts(user, user+"-secret")...); err != nil {
			t.Errorf("%s with the right password: %v", user, err)
		}
		if err := ping(c.ClientOpts(user, "wrong")...); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("%s with a wrong password: %v, want SASL_AUTHENTICATION_FAILED", user, err)
		}
	}

	// A user without ACLs sees nothing; the Java tools get in with the same properties.
	alice := kadm.NewClient(NewClient(t, append(c.ClientOpts("alice", "alice-secret"), kgo.SeedBrokers(c.seeds()...))...))
	topics, err := alice.ListTopics(t.Context())
	if err != nil || topics.Has("secret") {
		t.Errorf("topics that alice sees: %v, %v; want none", topics.Names(), err)
	}
	list := func(user, password string) (string, error) {
		return c.Tool(t, TopicCommand, "--bootstrap-server", c.Bootstrap(), "--list",
			"--command-config", c.PropertiesFile(t, user, password))
	}
	if out, err := list(SuperUser, SuperUserPassword); err != nil || !strings.Contains(out, "secret") {
		t.Errorf("topics that the super user sees: %q, %v", out, err)
	}
	if out, err := list("bob", "bob-secret"); err != nil || strings.Contains(out, "secret") {
		t.Errorf("topics that bob sees: %q, %v; want none", out, err)
	}
}

func TestOtherProtocols(t *testing.T) {
	for name, c := range map[string]struct {
		opts           []Option
		user, password string
	}{
		"SSL":                          {opts: []Option{SSL()}},
		"SASL_PLAINTEXT SCRAM-SHA-256": {[]Option{SASLPlaintext(), Scram("SCRAM-SHA-256", "eve", "eve-secret")}, "eve", "eve-secret"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := Start(t, c.opts...)
			cl := NewClient(t, append(cluster.ClientOpts(c.user, c.password), kgo.SeedBrokers(cluster.seeds()...))...)
			if err := cl.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := cluster.Tool(t, TopicCommand, "--bootstrap-server", cluster.Bootstrap(), "--list",
				"--command-config", cluster.PropertiesFile(t, c.user, c.password)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestThreeBrokers(t *testing.T) {
	c := Start(t, Brokers(3), WithFaults(), WithReplicationFaults(), Listener("DIRECT", "PLAINTEXT", ""))
	cl := c.Client(t)
	CreateTopic(t, cl, "three", 3, -1, nil)
	for p := range int32(3) {
		Produce(t, cl, "three", p, Records(10, 10)...)
	}
	c.Brokers()[0].Kill()
	if n := len(c.ReadAll(t, "three")); n != 30 {
		t.Errorf("%d records with a broker down, want 30", n)
	}
	Produce(t, cl, "three", 0, Records(10, 10)...)
	c.Brokers()[0].Restart(t)
	if n := len(c.ReadAll(t, "three")); n != 40 {
		t.Errorf("%d records, want 40", n)
	}

	// Clients come by the fault proxies alone.
	for _, b := range c.Brokers() {
		b.Faults().Cut()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Client(t).Ping(ctx); err == nil {
		t.Error("a client got through with all connections cut")
	}
	for _, b := range c.Brokers() {
		b.Faults().Resume()
	}
	if err := c.Client(t).Ping(t.Context()); err != nil {
		t.Errorf("after the fault: %v", err)
	}

	// Followers connect through proxies of their own, and a client of another listener through
	// none.
	direct, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()[0].ListenerAddr("DIRECT")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	Produce(t, direct, "three", 1, Records(1, 10)...)
	for _, b := range c.Brokers() {
		b.Faults().Cut()
		b.ReplicationFaults().Delay(30 * time.Millisecond)
	}
	begin := time.Now()
	Produce(t, direct, "three", 1, Records(1, 10)...)
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("an append was answered after %v, sooner than a follower can have it", took)
	}
}
