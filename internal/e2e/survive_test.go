package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// feed produces to a topic until it is stopped: every acknowledged record counts.
type feed struct {
	acked atomic.Int64
	stop  func()
}

func startFeed(t testing.TB, c *kafkatest.Cluster, topic string) *feed {
	t.Helper()
	f := &feed{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	cl := c.Client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(500),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			cl.Produce(ctx, kgo.KeyStringRecord(fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 1+i%20)), func(_ *kgo.Record, err error) {
				if err == nil {
					f.acked.Add(1)
				}
			})
			if i%100 == 99 {
				time.Sleep(10 * time.Millisecond) // a rate, not a wait: the machine has two cores for everything
			}
		}
		cl.Flush(context.Background())
	}()
	f.stop = func() { cancel(); <-done }
	t.Cleanup(f.stop)
	return f
}

// awaitAcked waits until the feed has n more acknowledged records.
func (f *feed) awaitAcked(t testing.TB, n int64) {
	t.Helper()
	goal := f.acked.Load() + n
	kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("%d more records at the source", n), func() (bool, string) {
		return f.acked.Load() >= goal, fmt.Sprint(f.acked.Load())
	})
}

// TestKillNineIsSurvived kills klink while it mirrors, several times, and compares every record at
// the end.
func TestKillNineIsSurvived(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	const topic = "payments"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 4, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", topic, "--link", "east")
	f := startFeed(t, source, topic)
	for range 4 {
		f.awaitAcked(t, 2000)
		k.Kill()
		f.awaitAcked(t, 500)
		k.Restart()
	}
	f.awaitAcked(t, 1000)
	f.stop()
	awaitMirror(t, k, source, topic)
	want := readFranz(t, source.Bootstrap(), topic, 0)
	assertSame(t, "after four kills", want, readFranz(t, k.Bootstrap(), topic, 0))
	if len(want) < 11_000 {
		t.Fatalf("only %d records were compared", len(want))
	}
	t.Logf("compared %d records", len(want))
}

// TestTerminateDrains sends SIGTERM under load: exit code 0, and the mirror goes on where it was.
func TestTerminateDrains(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	const topic = "audit"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(context.Background(), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", topic, "--link", "east")
	f := startFeed(t, source, topic)
	f.awaitAcked(t, 2000)
	if code := k.Terminate(t); code != 0 {
		t.Fatalf("exit code %d after SIGTERM", code)
	}
	k.Restart()
	f.awaitAcked(t, 1000)
	f.stop()
	awaitMirror(t, k, source, topic)
	assertSame(t, "after SIGTERM", readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, k.Bootstrap(), topic, 0))
}

// TestThreeBrokers reaches each leader of a three-broker destination through its own port, and
// stops and starts a broker under load: the mirror and the clients of an ordinary topic survive it.
func TestThreeBrokers(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t, kafkatest.Brokers(3))
	ctx := context.Background()
	const topic = "clicks"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 6, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", topic, "--link", "east", "--replication-factor", "3")
	k.MustCLI(t, "topic", "create", "plain", "--partitions", "6", "--replication-factor", "3")

	through := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())))
	meta, err := through.Metadata(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[int32]bool{}
	for i, b := range meta.Brokers {
		if want := k.Port() + 1 + i; int(b.Port) != want || b.Host != "127.0.0.1" {
			t.Errorf("broker %d is advertised as %s:%d, want 127.0.0.1:%d", b.NodeID, b.Host, b.Port, want)
		}
		ports[b.Port] = true
	}
	if len(ports) != 3 {
		t.Fatalf("the three brokers are advertised at ports %v", ports)
	}
	leaders := map[int32]bool{}
	meta.Topics[topic].Partitions.Sorted()
	for _, p := range meta.Topics[topic].Partitions.Sorted() {
		leaders[p.Leader] = true
	}
	if len(leaders) != 3 {
		t.Errorf("the leaders of %s are %v: not all brokers are tried", topic, leaders)
	}

	f := startFeed(t, source, topic)
	producer := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	produced := 0
	plain := func(n int) {
		for range n {
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "plain", Value: fmt.Append(nil, produced)}).FirstErr(); err != nil {
				t.Fatalf("produce to the ordinary topic: %v", err)
			}
			produced++
		}
	}
	plain(50)
	f.awaitAcked(t, 1000)
	broker := destination.Brokers()[1]
	broker.Stop()
	plain(50)
	f.awaitAcked(t, 1000)
	broker.Restart(t)
	plain(50)
	f.awaitAcked(t, 1000)
	f.stop()
	awaitMirror(t, k, source, topic)
	assertSame(t, "mirror", readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, k.Bootstrap(), topic, 0))
	if got := readFranz(t, k.Bootstrap(), "plain", 0); len(got) != produced {
		t.Errorf("the ordinary topic has %d records, %d were acknowledged", len(got), produced)
	}
}

// TestSourceOutage takes the source away and brings it back: link and mirror say so, and recover by
// themselves, while other topics of the destination notice nothing.
func TestSourceOutage(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"stock", "again", "changed"}, link: []string{"metadata.max.age.ms=1000"}})
	source, adm, k, ctx := e.source, e.adm, e.k, e.ctx
	const topic = "stock"
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	k.MustCLI(t, "topic", "create", topic, "--link", "east")
	k.MustCLI(t, "topic", "create", "plain")
	produceVaried(ctx, t, source, topic, 0, 50)
	awaitMirror(t, k, source, topic)

	t.Run("link changed under load", func(t *testing.T) { changedUnderLoad(t, e, "changed") })
	t.Run("down", func(t *testing.T) {
		source.Brokers()[0].Kill()
		awaitMirrorState(t, k, topic, "SOURCE_UNAVAILABLE", "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR")
		awaitLinkState(t, k, "east", "UNAVAILABLE", "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR")
		if got := readFranz(t, k.Bootstrap(), topic, 0); len(got) != 50 {
			t.Errorf("%d records can be read while the source is down", len(got))
		}
		k.MustCLI(t, "topic", "describe", "plain")
		source.Brokers()[0].Restart(t)
		awaitLinkState(t, k, "east", "ACTIVE", "")
		produceVaried(ctx, t, source, topic, 1, 50)
		awaitMirror(t, k, source, topic)
		assertSame(t, "after the outage", readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, k.Bootstrap(), topic, 0))
	})
	t.Run("partitions grow", func(t *testing.T) {
		if _, err := adm.UpdatePartitions(ctx, 5, topic); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, topic, 4, 30)
		kafkatest.WaitFor(t, time.Minute, "five partitions in the mirror", func() (bool, string) {
			d, err := describeMirror(t, k, topic)
			return err == nil && len(d.Partitions) == 5, fmt.Sprintf("%+v %v", d, err)
		})
		awaitMirror(t, k, source, topic)
		assertSame(t, "after growth", readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, k.Bootstrap(), topic, 0))
	})
	t.Run("topic deleted", func(t *testing.T) {
		if _, err := adm.DeleteTopics(ctx, topic); err != nil {
			t.Fatal(err)
		}
		awaitMirrorState(t, k, topic, "SOURCE_UNAVAILABLE", "SOURCE_TOPIC_MAY_BE_DELETED")
		k.MustCLI(t, "mirror", "failover", topic)
		awaitMirrorState(t, k, topic, "STOPPED", "")
		if got := readFranz(t, k.Bootstrap(), topic, 0); len(got) != 130 {
			t.Errorf("%d records can be read after the failover", len(got))
		}
	})
	t.Run("topic created again", func(t *testing.T) {
		const again = "again"
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, again); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, again, 0, 20)
		k.MustCLI(t, "topic", "create", again, "--link", "east")
		awaitMirror(t, k, source, again)
		if _, err := adm.DeleteTopics(ctx, again); err != nil {
			t.Fatal(err)
		}
		kafkatest.WaitFor(t, time.Minute, "the topic to be gone", func() (bool, string) {
			ts, err := adm.ListTopics(ctx)
			return err == nil && !ts.Has(again), fmt.Sprint(err)
		})
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, again); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, again, 0, 40)
		awaitMirrorState(t, k, again, "FAILED", "SOURCE_TOPIC_ID_CHANGED")
		if got := readFranz(t, k.Bootstrap(), again, 0); len(got) != 20 {
			t.Errorf("the failed mirror shows %d records, not the 20 it had", len(got))
		}
		k.MustCLI(t, "mirror", "failover", again)
		awaitMirrorState(t, k, again, "STOPPED", "")
		if got := readFranz(t, k.Bootstrap(), again, 0); len(got) != 20 {
			t.Errorf("%d records can be read after the failover, not the 20 it had", len(got))
		}
	})
	t.Run("link deleted", func(t *testing.T) {
		k.MustCLI(t, "link", "delete", "east")
		left := map[string]bool{}
		for _, r := range readFranz(t, e.destination.Bootstrap(), "_klink_state", 0) {
			left[r.key] = r.value != text(nil)
		}
		for key, there := range left {
			if kind, name, _ := strings.Cut(key, "/"); there && kind != "mirror" && (name == "east" || strings.HasPrefix(name, "east/")) {
				t.Errorf("%s is still there", key)
			}
		}
		if _, ok := left["link/east"]; !ok {
			t.Errorf("no link/east among %v", left)
		}
		if out := k.MustCLI(t, "link", "list"); strings.Contains(out, "east") {
			t.Errorf("%s", out)
		}
		if got := readFranz(t, k.Bootstrap(), "again", 0); len(got) != 20 {
			t.Errorf("%d records can be read after the link was deleted, not 20", len(got))
		}
	})
}

// changedUnderLoad changes configs of the link, while a topic is written at the source and
// mirrored: nothing is lost or doubled, and the mirror is ACTIVE all the time.
func changedUnderLoad(t *testing.T, e *exact, topic string) {
	e.createSource(t, topic, 2)
	e.k.MustCLI(t, "topic", "create", topic, "--link", "east")
	awaitMirrorState(t, e.k, topic, "ACTIVE", "")
	f := startFeed(t, e.source, topic)
	address := e.source.Bootstrap()
	for i, change := range []string{
		"fetch.max.wait.ms=100", "bootstrap.servers=" + address + "," + address, "consumer.offset.sync.enable=true", "metadata.max.age.ms=2000",
		"topic.config.sync.ms=1000", "consumer.offset.sync.enable=false", "bootstrap.servers=" + address, "metadata.max.age.ms=1000",
	} {
		args := []string{"link", "update", "east", "--config", change}
		if strings.HasPrefix(change, "bootstrap.servers=") { // it decides who gets the password
			args = append(args, "--config", "sasl.jaas.config="+e.source.ClientProperties(linkerUser, linkerPassword)["sasl.jaas.config"])
		}
		e.k.MustCLI(t, args...)
		f.awaitAcked(t, 300)
		end := func() int64 {
			d, err := describeMirror(t, e.k, topic)
			if err != nil || d.State != "ACTIVE" {
				t.Errorf("after %s: %+v %v", change, d, err)
			}
			return d.Partitions[0].MirrorEndOffset + d.Partitions[1].MirrorEndOffset
		}
		kafkatest.WaitFor(t, time.Minute, "the mirror to go on after "+change, func() (bool, string) { n := end(); return n >= int64(300*(i+1)), fmt.Sprint(n) })
	}
	f.stop()
	awaitMirror(t, e.k, e.source, topic)
	assertSame(t, topic, readFranz(t, e.source.Bootstrap(), topic, 0), readFranz(t, e.k.Bootstrap(), topic, 0))
	if d, err := describeMirror(t, e.k, topic); err != nil || d.Partitions[0].Shift != 0 {
		t.Errorf("something was appended twice: %+v %v", d, err)
	}
	e.k.MustCLI(t, "mirror", "failover", topic)
}

func awaitLinkState(t testing.TB, k *Klink, name, state, errorName string) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, "link "+name+" to be "+state+" "+errorName, func() (bool, string) {
		stdout, stderr, code := k.CLI(t, "link", "describe", name, "-o", "json")
		if code != 0 {
			return false, stderr
		}
		var d struct{ State, Error string }
		if err := json.Unmarshal([]byte(stdout), &d); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		return d.State == state && d.Error == errorName, stdout
	})
}

// TestUnsupportedDataFailsTheMirrorByName: what this version cannot mirror faithfully stops that
// mirror alone.
func TestUnsupportedDataFailsTheMirrorByName(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	cl := source.Client(t)
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopics(ctx, 1, 1, nil, "large", "fine"); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", "large", "--link", "east")
	k.MustCLI(t, "topic", "create", "fine", "--link", "east")
	produceVaried(ctx, t, source, "large", 0, 10)
	produceVaried(ctx, t, source, "fine", 0, 10)
	awaitMirror(t, k, source, "large")
	// The source takes it for a moment of which klink does not hear.
	k.MustCLI(t, "mirror", "pause", "large")
	setTopicConfig(ctx, t, source, "large", "max.message.bytes", "4000000")
	produceLarge(ctx, t, source, "large")
	setTopicConfig(ctx, t, source, "large", "max.message.bytes", "1048588")
	k.MustCLI(t, "mirror", "resume", "large")
	d := awaitMirrorState(t, k, "large", "FAILED", "RECORD_TOO_LARGE")
	if !strings.Contains(d.ErrorMessage, "large-0") || !strings.Contains(d.ErrorMessage, "10") || !strings.Contains(d.ErrorMessage, "max.message.bytes") {
		t.Errorf("the message does not name partition, offset and config: %s", d.ErrorMessage)
	}
	if got := readFranz(t, k.Bootstrap(), "large", 0); len(got) != 10 {
		t.Errorf("the failed mirror shows %d records, want the 10 before the large one", len(got))
	}
	produceVaried(ctx, t, source, "fine", 0, 10)
	awaitMirror(t, k, source, "fine")
}

// produceLarge appends a record of 3 MB.
func produceLarge(ctx context.Context, t *testing.T, c *kafkatest.Cluster, topic string) {
	t.Helper()
	big := c.Client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(4_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := big.ProduceSync(ctx, kgo.SliceRecord(make([]byte, 3_000_000))).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// setTopicConfig sets a config of a topic, and waits until the broker has heard of it.
func setTopicConfig(ctx context.Context, t *testing.T, c *kafkatest.Cluster, topic, name, value string) {
	t.Helper()
	adm := kadm.NewClient(c.Client(t))
	responses, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: name, Value: &value}}, topic)
	if err != nil || responses[0].Err != nil {
		t.Fatal(err, responses)
	}
	kafkatest.WaitFor(t, 30*time.Second, name+"="+value+" of "+topic, func() (bool, string) {
		resources, err := adm.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		for _, have := range resources[0].Configs {
			if have.Key == name {
				return have.MaybeValue() == value, have.MaybeValue()
			}
		}
		return false, "not there"
	})
}

// TestRecordsThatAConfigHasJustLetIn: the source's topic takes larger records, or records without
// keys, from one moment to the next. They are mirrored, however long the configs of mirrors would
// take to follow by themselves.
func TestRecordsThatAConfigHasJustLetIn(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	adm := kadm.NewClient(source.Client(t))
	compact := "compact"
	if _, err := adm.CreateTopics(ctx, 1, 1, nil, "large"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopics(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact}, "keyless"); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source, "topic.config.sync.ms=3600000")
	keyless := source.Client(t, kgo.DefaultProduceTopic("keyless"))
	for _, topic := range []string{"large", "keyless"} {
		if err := keyless.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		k.MustCLI(t, "topic", "create", topic, "--link", "east")
		awaitMirror(t, k, source, topic)
	}
	setTopicConfig(ctx, t, source, "large", "max.message.bytes", "4000000")
	produceLarge(ctx, t, source, "large")
	setTopicConfig(ctx, t, source, "keyless", "cleanup.policy", "delete")
	if err := keyless.ProduceSync(ctx, kgo.StringRecord("no key")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"large", "keyless"} {
		awaitMirror(t, k, source, topic)
		if got := readFranz(t, k.Bootstrap(), topic, 0); len(got) != 2 {
			t.Errorf("the mirror of %s shows %d records, want 2", topic, len(got))
		}
	}
}

// TestOldSource mirrors from Kafka 2.4.1.
func TestOldSource(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.StartOld(t), kafkatest.Start(t)
	ctx := context.Background()
	const topic = "legacy"
	adm := kadm.NewClient(source.Client(t))
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	produceVaried(ctx, t, source, topic, 0, 150)
	produceVaried(ctx, t, source, topic, 1, 40)
	deleteBefore(ctx, t, adm, topic, map[int32]int64{0: 33})
	k := StartKlink(t, destination)
	createLink(t, k, "old", source)
	k.MustCLI(t, "topic", "create", topic, "--link", "old")
	awaitMirror(t, k, source, topic)
	assertSame(t, "from 2.4.1", readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, k.Bootstrap(), topic, 0))
}
