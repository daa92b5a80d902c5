package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// intruder writes to a topic through an instance, again and again, until stop. It counts what it
// was told has been written.
type intruder struct {
	acked   atomic.Int64
	refused atomic.Int64 // as a mirror
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func startIntruder(t testing.TB, destination *kafkatest.Cluster, through *Klink, topic string, partitions int32) *intruder {
	t.Helper()
	cl := destination.Client(t, kgo.SeedBrokers(through.Bootstrap()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.UnknownTopicRetries(0), kgo.RecordDeliveryTimeout(3*time.Second), kgo.ProduceRequestTimeout(time.Second),
		kgo.DisableIdempotentWrite(), kgo.MetadataMinAge(50*time.Millisecond), kgo.ProducerLinger(0))
	var ctx context.Context
	i := &intruder{}
	ctx, i.cancel = context.WithCancel(context.Background())
	t.Cleanup(i.stop)
	for p := range partitions {
		i.done.Go(func() {
			for ctx.Err() == nil {
				err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("intruder")}).FirstErr()
				switch {
				case err == nil:
					i.acked.Add(1)
				case isReadOnly(err):
					i.refused.Add(1)
				}
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	return i
}

func (i *intruder) stop() {
	i.cancel()
	i.done.Wait()
}

// assertNotIn fails if the intruder wrote to the mirror: it was told so, or the mirror's log has
// something that is not klink's.
func (i *intruder) assertNotIn(t testing.TB, destination *kafkatest.Cluster, inner, topic string) {
	t.Helper()
	i.stop()
	if n := i.acked.Load(); n != 0 {
		t.Errorf("%d records were written to the mirror %s by a client", n, topic)
	}
	for _, r := range readDirect(t, destination, inner, topic) {
		if isForeign(r) {
			t.Errorf("%s/%d has a client's record at physical offset %d", topic, r.Partition, r.Offset)
		}
	}
}

// isForeign says that klink has not written a record to the log of a mirror: its batch has no
// stamp.
func isForeign(r *kgo.Record) bool { return !r.Attrs.IsControl() && r.ProducerID >= -1 }

// readDirect reads a topic around klink.
func readDirect(t testing.TB, destination *kafkatest.Cluster, seed, topic string) (records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(destination.Client(t, kgo.SeedBrokers(seed)))
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl := destination.Client(t, kgo.SeedBrokers(seed), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("reading %s around klink: %v is left", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return records
}

// readyz is what an instance says of itself.
func (k *Klink) readyz(t testing.TB) (code int, text string) {
	t.Helper()
	resp, err := http.Get("http://" + k.HTTP() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, string(body)
}

// convert asks an instance to turn an ordinary topic into a mirror, as kafka-configs does.
func convert(ctx context.Context, destination *kafkatest.Cluster, t testing.TB, through *Klink, topic string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	link := "east"
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "mirror.link", Value: &link}},
	}}
	resp, err := req.RequestWith(ctx, destination.Client(t, kgo.SeedBrokers(through.Bootstrap()), kgo.RequestTimeoutOverhead(2*time.Minute)))
	if err != nil {
		return err
	}
	if r := resp.Resources[0]; r.ErrorCode != 0 {
		message := ""
		if r.ErrorMessage != nil {
			message = *r.ErrorMessage
		}
		return fmt.Errorf("%w: %s", kerr.ErrorForCode(r.ErrorCode), message)
	}
	return nil
}

// TestAnInstanceThatMayNotReadTheState takes READ on the state topic away from one of two
// instances. Its clients write to ordinary topics as before. A mirror that the other instance makes
// is not made before the first one knows it, and no client writes to it.
func TestAnInstanceThatMayNotReadTheState(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t, kafkatest.SASLPlaintext("deaf", "deaf-secret"))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 2, 1, nil, "orders", "payments"); err != nil {
		t.Fatal(err)
	}
	produceVaried(ctx, t, source, "payments", 0, 20)
	adm := kadm.NewClient(destination.Client(t))
	acls := func(b *kadm.ACLBuilder) {
		t.Helper()
		results, err := adm.CreateACLs(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	acls(kadm.NewACLs().Allow("User:deaf").AllowHosts("*").Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral).
		Topics("*").Groups("*").TransactionalIDs("*").Clusters())
	first := StartKlink(t, destination, "--state-lease", "3s", "--allow-plaintext-secrets")
	first.commandConfig = destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	deaf := StartKlink(t, destination, "--state-lease", "3s", "--allow-plaintext-secrets", "--destination-config", destination.PropertiesFile(t, "deaf", "deaf-secret"))
	deaf.commandConfig = first.commandConfig
	instances{first, deaf}.awaitSpread(t)
	createLink(t, first, "east", source)
	first.MustCLI(t, "topic", "create", "orders", "--link", "east")
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "plain"); err != nil {
		t.Fatal(err)
	}
	plain := startIntruder(t, destination, deaf, "plain", 1)
	old := startIntruder(t, destination, deaf, "orders", 2)
	kafkatest.WaitFor(t, time.Minute, "clients of the instance to be served", func() (bool, string) {
		return plain.acked.Load() > 3 && old.refused.Load() > 3, ""
	})

	acls(kadm.NewACLs().Deny("User:deaf").DenyHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral).Topics("_klink_state"))
	// A fetch that was let through before may wait for records for 5 s. Until there is something to
	// read that the instance may not, it knows all that there is.
	time.Sleep(7 * time.Second)
	createLink(t, first, "west", source)
	kafkatest.WaitFor(t, time.Minute, "the instance to say that it is not ready", func() (bool, string) {
		code, text := deaf.readyz(t)
		return code == http.StatusServiceUnavailable && strings.Contains(text, "_klink_state"), text
	})
	if age, ok := deaf.sumOf(t, "klink_state_age_seconds", ""); !ok || age < 3 {
		t.Errorf("klink_state_age_seconds is %v, %v", age, ok)
	}
	before, refused := plain.acked.Load(), old.refused.Load()
	into := startIntruder(t, destination, deaf, "payments", 2)
	creating := first.StartCLI(t, nil, "topic", "create", "payments", "--link", "east")
	kafkatest.WaitFor(t, time.Minute, "an ordinary topic to be written on", func() (bool, string) {
		return plain.acked.Load() > before+50, fmt.Sprint(plain.acked.Load() - before)
	})
	// The instance is in the group, so it is waited for, however long its lease is out.
	time.Sleep(8 * time.Second)
	if topics, err := adm.ListTopics(ctx); err != nil || topics.Has("payments") {
		t.Errorf("the mirror's topic was made while an instance that serves clients does not know it: %v", err)
	}
	if n := old.refused.Load(); n > refused+2 { // those that were under way
		t.Errorf("%d writes to a mirror were refused by what was known of it long ago", n-refused)
	}
	if _, err := adm.DeleteACLs(ctx, kadm.NewACLs().Deny("User:deaf").DenyHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral).Topics("_klink_state")); err != nil {
		t.Fatal(err)
	}
	<-creating.Done()
	awaitMirrorState(t, first, "payments", "ACTIVE", "")
	kafkatest.WaitFor(t, time.Minute, "the instance to refuse again", func() (bool, string) {
		code, text := deaf.readyz(t)
		return into.refused.Load() > 3 && old.refused.Load() > refused+3 && code == http.StatusOK, text
	})
	awaitMirror(t, deaf, source, "payments")
	plain.stop()
	into.assertNotIn(t, destination, destination.Bootstrap(), "payments")
	old.assertNotIn(t, destination, destination.Bootstrap(), "orders")
}

// TestAnInstanceThatWasStopped stops the process of one of two instances while a client's write to
// an ordinary topic waits in its socket. The other instance turns the topic into a mirror. When the
// process goes on it does not let the write through.
func TestAnInstanceThatWasStopped(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	adm := kadm.NewClient(destination.Client(t))
	first := StartKlink(t, destination, "--state-lease", "3s")
	stopped := StartKlink(t, destination, "--state-lease", "3s")
	createLink(t, first, "east", source)
	instances{first, stopped}.awaitSpread(t)
	for round := range 3 {
		topic := fmt.Sprintf("orders-%d", round)
		if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, topic, 0, 20)
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		meta, err := adm.Metadata(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		var clients []*raw
		for range 20 {
			c := dialRaw(t, stopped.BrokerAddr(t, 0))
			ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{}}, 8)
			clients = append(clients, c)
		}
		pid := stopped.PID(t)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// All of its threads have stopped only when nothing answers any more.
		impatient := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		kafkatest.WaitFor(t, time.Minute, "the process to stand still", func() (bool, string) {
			resp, err := impatient.Get("http://" + stopped.HTTP() + "/healthz")
			if err == nil {
				resp.Body.Close()
			}
			return err != nil, "it answers"
		})
		req := produceRequest(meta, 9, topic)
		for _, c := range clients {
			c.send(req, 9) // into the socket of the process
		}
		err = convert(ctx, destination, t, first, topic)
		if e := syscall.Kill(pid, syscall.SIGCONT); e != nil {
			t.Fatal(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		written, refused, other := 0, 0, 0
		for _, c := range clients {
			switch receive[*kmsg.ProduceResponse](c, req, 9).Topics[0].Partitions[0].ErrorCode {
			case 0:
				written++
			case kerr.InvalidRequest.Code:
				refused++
			default:
				other++
			}
		}
		t.Logf("round %d: %d refused as writes to a mirror, %d otherwise", round, refused, other)
		if written > 0 || refused == 0 {
			t.Errorf("round %d: %d writes reached the mirror, %d were refused", round, written, refused)
		}
		awaitMirror(t, first, source, topic)
		for _, r := range readDirect(t, destination, destination.Bootstrap(), topic) {
			if isForeign(r) {
				t.Errorf("round %d: a client's record at physical offset %d of the mirror", round, r.Offset)
			}
		}
		kafkatest.WaitFor(t, time.Minute, "the instance to be ready again", func() (bool, string) {
			code, text := stopped.readyz(t)
			return code == http.StatusOK, text
		})
		instances{first, stopped}.awaitSpread(t)
	}
}

// TestAnInstanceCutOffFromTheState cuts one of two instances off from the broker that leads the
// state topic, and from no other. Its client writes to partitions on the other broker, of a topic
// that the other instance makes a mirror.
func TestAnInstanceCutOffFromTheState(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t, kafkatest.Brokers(2), kafkatest.WithFaults())
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 4, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	produceVaried(ctx, t, source, "orders", 0, 20)
	inner := destination.Brokers()[0].InternalAddr() + "," + destination.Brokers()[1].InternalAddr()
	first := StartKlink(t, destination, "--destination", inner, "--state-lease", "3s")
	cut := StartKlink(t, destination, "--state-lease", "3s")
	createLink(t, first, "east", source)
	instances{first, cut}.awaitSpread(t)
	seed := destination.Brokers()[0].InternalAddr()
	adm := kadm.NewClient(destination.Client(t, kgo.SeedBrokers(seed)))
	topics, err := adm.ListTopics(ctx, "_klink_state")
	if err != nil {
		t.Fatal(err)
	}
	leader := topics["_klink_state"].Partitions[0].Leader
	for _, b := range destination.Brokers() {
		if int32(b.ID()) == leader {
			b.Faults().Cut()
			defer b.Faults().Resume()
		}
	}
	into := startIntruder(t, destination, cut, "orders", 4)
	creating := first.StartCLI(t, nil, "topic", "create", "orders", "--link", "east")
	select {
	case <-creating.Done(): // the instance is out of the group, and of its lease
	case <-time.After(20 * time.Second): // the group waits for it, at the other broker
	}
	time.Sleep(3 * time.Second)
	for _, b := range destination.Brokers() {
		b.Faults().Resume()
	}
	awaitMirrorState(t, first, "orders", "ACTIVE", "")
	kafkatest.WaitFor(t, time.Minute, "the instance to refuse", func() (bool, string) {
		code, text := cut.readyz(t)
		return into.refused.Load() > 3 && code == http.StatusOK, text
	})
	awaitMirror(t, first, source, "orders")
	into.assertNotIn(t, destination, seed, "orders")
}
