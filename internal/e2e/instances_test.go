package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
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
)

// instances are several klinks on one destination.
type instances []*Klink

func startInstances(t testing.TB, destination *kafkatest.Cluster, n int, flags ...string) instances {
	t.Helper()
	var all instances
	for range n {
		all = append(all, StartKlink(t, destination, flags...))
	}
	return all
}

func (is instances) bootstraps() []string {
	var addrs []string
	for _, k := range is {
		addrs = append(addrs, k.Bootstrap())
	}
	return addrs
}

// sumOf is the sum of a metric's values, with labels that contain some text.
func (k *Klink) sumOf(t testing.TB, name, labels string) (sum float64, found bool) {
	t.Helper()
	for _, line := range strings.Split(k.Metrics(t), "\n") {
		m := metricLine.FindStringSubmatch(line)
		if m == nil || m[1] != name || !strings.Contains(m[2], labels) {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+v, true
	}
	return sum, found
}

var metricLine = regexp.MustCompile(`^(\w+)(\{.*\})? (\S+)$`)

// slots are how many slots a klink works on.
func (k *Klink) slots(t testing.TB) int {
	t.Helper()
	n, ok := k.sumOf(t, "klink_task_slots", "")
	if !ok {
		t.Fatal("no klink_task_slots")
	}
	return int(n)
}

// awaitSpread waits until each instance has its share of the work.
func (is instances) awaitSpread(t testing.TB) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, "the work to be spread", func() (bool, string) {
		sum, even, all := 0, true, ""
		for _, k := range is {
			n := k.slots(t)
			sum += n
			even = even && n >= 24/len(is)
			all += fmt.Sprint(n, " ")
		}
		return even && sum == 24, all
	})
}

// owner is the coordinator of a mirror: the instance that copies its partition 0.
func (is instances) owner(t testing.TB, topic string) *Klink {
	t.Helper()
	var owner *Klink
	kafkatest.WaitFor(t, time.Minute, "an owner of "+topic, func() (bool, string) {
		owner = nil
		for _, k := range is {
			if _, ok := k.sumOf(t, "klink_mirror_lag_offsets", `partition="0",topic="`+topic+`"`); ok {
				if owner != nil {
					return false, "two"
				}
				owner = k
			}
		}
		return owner != nil, "none"
	})
	return owner
}

// without are the other instances.
func (is instances) without(gone *Klink) instances {
	return slices.DeleteFunc(slices.Clone(is), func(k *Klink) bool { return k == gone })
}

// TestThreeInstances kills the instance that copies a mirror, under load: another one takes over,
// and nothing is lost or doubled. Then the one that was killed comes back, and has its share again.
func TestThreeInstances(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	topics := []string{"orders", "payments", "clicks", "stock", "audit", "views"}
	if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 2, 1, nil, topics...); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source)
	var feeds []*feed
	for i, topic := range topics {
		all[i%3].MustCLI(t, "topic", "create", topic, "--link", "east")
		feeds = append(feeds, startFeed(t, source, topic))
	}
	all.awaitSpread(t)
	for _, topic := range topics {
		awaitMirrorState(t, all[0], topic, "ACTIVE", "")
	}
	watchers := map[string]*watcher{}
	for _, topic := range topics {
		watchers[topic] = startWatcher(t, all[1], topic)
	}
	for _, f := range feeds {
		f.awaitAcked(t, 500)
	}
	victim := all.owner(t, "orders")
	if victim == all[1] { // the watchers' own goes on to be reachable
		watchers["orders"].stop()
		watchers["orders"] = startWatcher(t, all[2], "orders")
	}
	victim.Kill()
	rest := all.without(victim)
	began := time.Now()
	rest.awaitSpread(t)
	t.Logf("the others had all of the work %v after kill -9", time.Since(began).Round(100*time.Millisecond))
	if took := time.Since(began); took > 3*sessionTimeout {
		t.Errorf("it took %v; the session time-out is %v", took, sessionTimeout)
	}
	for _, f := range feeds {
		f.awaitAcked(t, 500)
	}
	began = time.Now()
	victim.Restart()
	all.awaitSpread(t)
	t.Logf("the instance that was killed had its share again %v after its start", time.Since(began).Round(100*time.Millisecond))
	for _, f := range feeds {
		f.awaitAcked(t, 300)
		f.stop()
	}
	for _, topic := range topics {
		want := readFranz(t, source.Bootstrap(), topic, 0)
		for _, k := range all {
			awaitMirror(t, k, source, topic)
			assertSame(t, topic+" through "+k.Bootstrap(), want, readFranz(t, k.Bootstrap(), topic, 0))
			if n, ok := k.sumOf(t, "klink_mirror_foreign_offsets_total", ""); ok && n != 0 {
				t.Errorf("%s: %v offsets are somebody else's", topic, n)
			}
		}
		watchers[topic].compare(t, want)
	}
}

// TestAnInstanceCutOff cuts the instance that copies a mirror off from the destination, in the way
// in which everything that it has sent is kept by the network and delivered later. It stops before
// another one begins, and when all comes through, nothing is lost or doubled.
func TestAnInstanceCutOff(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t, kafkatest.WithFaults())
	ctx := context.Background()
	const topic = "trades" // in slot 11
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	cut := StartKlink(t, destination)
	// The others reach the brokers at another listener, which nothing is cut off from.
	inner := destination.Brokers()[0].InternalAddr()
	createLink(t, cut, "east", source)
	cut.MustCLI(t, "topic", "create", topic, "--link", "east")
	f := startFeed(t, source, topic)
	f.awaitAcked(t, 1000)
	all := instances{cut, StartKlink(t, destination, "--destination", inner)}
	all.awaitSpread(t)
	if all.owner(t, topic) != cut {
		// Who had all of them keeps the lower half.
		t.Fatalf("%s moved", topic)
	}
	for round := range 2 {
		f.awaitAcked(t, 500)
		destination.Brokers()[0].Faults().Stall()
		began := time.Now()
		var stopped, taken time.Duration
		kafkatest.WaitFor(t, time.Minute, "the other instance to take over", func() (bool, string) {
			if n := cut.slots(t); stopped == 0 && n == 0 {
				stopped = time.Since(began)
			}
			n := all[1].slots(t)
			if taken == 0 && n == 24 {
				taken = time.Since(began)
			}
			return taken > 0, fmt.Sprintf("%d and %d slots", cut.slots(t), n)
		})
		t.Logf("round %d: it stopped after %v, the other one had taken over after %v", round, stopped.Round(10*time.Millisecond), taken.Round(10*time.Millisecond))
		if stopped == 0 || stopped > taken {
			t.Errorf("the instance that is cut off stopped after %v, the other one had begun by %v", stopped, taken)
		}
		f.awaitAcked(t, 1500)
		destination.Brokers()[0].Faults().Resume()
		f.awaitAcked(t, 500)
		all.awaitSpread(t)
		// The one that was cut off is to have it again.
		if all.owner(t, topic) != cut {
			all[1].Terminate(t)
			instances{cut}.awaitSpread(t)
			all[1].Restart()
			all.awaitSpread(t)
		}
	}
	f.stop()
	want := readFranz(t, source.Bootstrap(), topic, 0)
	for _, k := range all {
		awaitMirror(t, k, source, topic)
		assertSame(t, "through "+k.Bootstrap(), want, readFranz(t, k.Bootstrap(), topic, 0))
	}
}

// TestRollingRestart restarts one instance after the other under load. Clients that know all of
// them see no error: one that writes to an ordinary topic, and one that reads a mirror.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const topic = "orders"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source)
	all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
	all[0].MustCLI(t, "topic", "create", "plain", "--partitions", "3")
	all.awaitSpread(t)
	f := startFeed(t, source, topic)

	seeds := kgo.SeedBrokers(all.bootstraps()...)
	var clients sync.WaitGroup
	produced := 0
	producer := kafkatest.NewClient(t, seeds, kgo.DefaultProduceTopic("plain"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	clients.Go(func() {
		for ctx.Err() == nil {
			if err := producer.ProduceSync(context.WithoutCancel(ctx), kgo.StringRecord(fmt.Sprint(produced))).FirstErr(); err != nil {
				t.Errorf("a record was not produced: %v", err)
				return
			}
			produced++
			pause(ctx, 5*time.Millisecond)
		}
	})
	var read []record
	var seen atomic.Int64
	consumer := kafkatest.NewClient(t, seeds, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	clients.Go(func() {
		for ctx.Err() == nil {
			fetches := consumer.PollFetches(ctx)
			fetches.EachError(func(_ string, p int32, err error) {
				if ctx.Err() == nil {
					t.Errorf("a consumer was given an error for partition %d: %v", p, err)
				}
			})
			fetches.EachRecord(func(r *kgo.Record) { read = append(read, asRecord(r)) })
			seen.Store(int64(len(read)))
		}
	})
	for _, k := range all {
		f.awaitAcked(t, 700)
		if code := k.Terminate(t); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
		began := time.Now()
		all.without(k).awaitSpread(t)
		t.Logf("its work was spread %v after the exit of an instance", time.Since(began).Round(10*time.Millisecond))
		f.awaitAcked(t, 300)
		k.Restart()
		all.awaitSpread(t)
	}
	f.awaitAcked(t, 500)
	f.stop()
	awaitMirror(t, all[1], source, topic)
	want := readFranz(t, source.Bootstrap(), topic, 0)
	kafkatest.WaitFor(t, time.Minute, "the consumer to be at the end", func() (bool, string) {
		return seen.Load() >= int64(len(want)), fmt.Sprintf("%d of %d records", seen.Load(), len(want))
	})
	cancel()
	clients.Wait()
	assertSame(t, "what a consumer has read over three restarts", want, sorted(read))
	plain := readFranz(t, all[0].Bootstrap(), "plain", 0)
	if len(plain) < produced {
		t.Errorf("%d records were acknowledged, %d are there", produced, len(plain))
	}
	t.Logf("%d records produced, %d read", produced, len(read))
}

// TestEveryInstanceAgrees changes something through one instance, and sees it at all of them within
// a second.
func TestEveryInstanceAgrees(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	adm := kadm.NewClient(source.Client(t))
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source)
	all.awaitSpread(t)
	producers := make([]*kgo.Client, len(all))
	for i, k := range all {
		producers[i] = kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(50*time.Millisecond))
	}
	write := func(i int, topic string) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return producers[i].ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint("own-", i))}).FirstErr()
	}
	for round, topic := range []string{"orders", "payments", "clicks"} {
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, topic, 0, 30)
		through := all[round]
		through.MustCLI(t, "topic", "create", topic, "--link", "east")
		began := time.Now()
		for i := range all {
			if err := write(i, topic); !isReadOnly(err) {
				t.Errorf("%s: instance %d takes a write to a mirror that was created through %d: %v", topic, i, round, err)
			}
		}
		if took := time.Since(began); took > stateLease {
			t.Errorf("three refusals took %v: more than the state lease", took)
		}
		for _, k := range all {
			awaitMirror(t, k, source, topic) // lag and offsets, wherever it is copied
		}
		// Stop it through another one: as soon as one takes a write, all do soon, and
		// none before it is STOPPED.
		all[(round+1)%3].MustCLI(t, "mirror", "failover", topic)
		began = time.Now()
		for i, k := range all {
			for {
				err := write(i, topic)
				if err == nil {
					break
				}
				if !isReadOnly(err) || time.Since(began) > stateLease {
					t.Fatalf("%s: %v after the stop instance %d says %v", topic, time.Since(began), i, err)
				}
			}
			if d, err := describeMirror(t, k, topic); err != nil || d.State != "STOPPED" {
				t.Errorf("%s: instance %d took a write while it says %s, %v", topic, i, d.State, err)
			}
		}
		want := readFranz(t, all[0].Bootstrap(), topic, 0)
		if len(want) != 33 {
			t.Errorf("%s has %d records, want 30 of the source and 3 own", topic, len(want))
		}
		for _, k := range all[1:] {
			assertSame(t, topic+" through another instance", want, readFranz(t, k.Bootstrap(), topic, 0))
		}
	}
	// What the tasks of a link do, and what they find, is known at all of them, though one runs
	// them.
	flush := "1000"
	if _, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"flush.messages": &flush}, "drifting"); err != nil {
		t.Fatal(err)
	}
	all[0].MustCLI(t, "topic", "create", "drifting", "--link", "east")
	for i, k := range all {
		kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("instance %d to know the drift and the tasks", i), func() (bool, string) {
			d, err := describeMirror(t, k, "drifting")
			tasks := k.MustCLI(t, "link", "task", "list", "east", "-o", "json")
			var listed []taskListing
			if err := json.Unmarshal([]byte(tasks), &listed); err != nil {
				t.Fatal(err)
			}
			ran := 0
			for _, task := range listed {
				if task.State == "ACTIVE" && task.LastRunTime != "" {
					ran++
				}
			}
			return err == nil && len(d.ConfigDrift) == 1 && d.ConfigDrift[0].Name == "flush.messages" && d.ConfigDrift[0].SourceValue == "1000" && ran == 1, fmt.Sprintf("%+v %v\n%s", d, err, tasks)
		})
	}
	if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "flush.messages"}}, "drifting"); err != nil {
		t.Fatal(err)
	}
	for i, k := range all {
		kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("instance %d to know that the drift is gone", i), func() (bool, string) {
			d, err := describeMirror(t, k, "drifting")
			return err == nil && len(d.ConfigDrift) == 0, fmt.Sprintf("%+v %v", d, err)
		})
	}
	// One link changed through all at once: each change counts.
	var changes sync.WaitGroup
	for i, config := range []string{"metadata.max.age.ms=7001", "fetch.max.wait.ms=333", "retry.backoff.ms=77"} {
		changes.Go(func() {
			if _, stderr, code := all[i].CLI(t, "link", "update", "east", "--config", config); code != 0 {
				t.Errorf("%s: %s", config, stderr)
			}
		})
	}
	changes.Wait()
	for _, k := range all {
		kafkatest.WaitFor(t, time.Second, "all changes to be seen", func() (bool, string) {
			text := k.MustCLI(t, "link", "describe", "east", "-o", "json")
			return strings.Contains(text, "7001") && strings.Contains(text, "333") && strings.Contains(text, "77"), text
		})
	}
	// Only one of those who create a link of one name does.
	var made, refused int
	var mu sync.Mutex
	props := source.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	props["bootstrap.servers"] = source.Bootstrap()
	file := kafkatest.WriteProperties(t, props)
	for _, k := range all {
		changes.Go(func() {
			_, stderr, code := k.CLI(t, "link", "create", "west", "--config-file", file)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code == 0:
				made++
			case strings.Contains(stderr, "exists"):
				refused++
			default:
				t.Errorf("%d: %s", code, stderr)
			}
		})
	}
	changes.Wait()
	if made != 1 || refused != 2 {
		t.Errorf("%d have made the link, %d were told that it exists", made, refused)
	}
}

// TestHolesAtEveryInstance: where a mirror ends in a hole that is not filled, a client is told the
// same end by all instances, and one that continues there at another instance, at once, is not out
// of range.
func TestHolesAtEveryInstance(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const topic = "orders"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source, "offset.alignment=off")
	all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
	all.awaitSpread(t)
	producer := source.Client(t, kgo.TransactionalID("e2e"), kgo.DefaultProduceTopic(topic))
	var through []*kadm.Client
	for _, k := range all {
		through = append(through, kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()))))
	}
	var end int64
	for round := range 30 {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(round))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		end += 2 // the record and the marker
		told := (round + 1) % 3
		for i := told; ; i = told { // one of them tells the end
			listed, err := through[i].ListEndOffsets(ctx, topic)
			if err != nil {
				t.Fatal(err)
			}
			if o, _ := listed.Lookup(topic, 0); o.Err != nil || o.Offset > end {
				t.Fatalf("instance %d tells the end %d, %v; the source ends at %d", i, o.Offset, o.Err, end)
			} else if o.Offset == end {
				break
			}
			if ctx.Err() != nil {
				t.Fatal("the end does not become that of the source")
			}
		}
		for i, k := range all { // all of them take it
			reader := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
				kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(end)}}), kgo.FetchMaxWait(100*time.Millisecond))
			polling, done := context.WithTimeout(ctx, 150*time.Millisecond)
			reader.PollFetches(polling).EachError(func(_ string, _ int32, err error) {
				if polling.Err() == nil {
					t.Errorf("round %d: instance %d, asked for offset %d, which instance %d has told: %v", round, i, end, told, err)
				}
			})
			done()
			reader.Close()
		}
	}
}

// TestOwnerDiesWhileAMirrorIsStopped: the next owner finishes the stop, and before that nobody
// takes a write.
func TestOwnerDiesWhileAMirrorIsStopped(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	const topic = "orders"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 2)
	createLink(t, all[0], "east", source)
	all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
	all.awaitSpread(t)
	f := startFeed(t, source, topic)
	f.awaitAcked(t, 1500)
	kafkatest.WaitFor(t, time.Minute, "the mirror to have 1,000 records", func() (bool, string) {
		d, err := describeMirror(t, all[0], topic)
		return err == nil && len(d.Partitions) == 2 && d.Partitions[0].MirrorEndOffset+d.Partitions[1].MirrorEndOffset >= 1000, fmt.Sprintf("%+v %v", d, err)
	})
	victim := all.owner(t, topic)
	rest := all.without(victim)
	victim.Kill()
	began := time.Now()
	stop := rest[0].StartCLI(t, nil, "mirror", "failover", topic)
	awaitMirrorState(t, rest[0], topic, "PENDING_STOPPED", "")
	producer := kafkatest.NewClient(t, kgo.SeedBrokers(rest[0].Bootstrap()))
	for {
		err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("own")}).FirstErr()
		if err == nil {
			break
		}
		if !isReadOnly(err) || time.Since(began) > time.Minute {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("writes are taken %v after kill -9 of the owner", time.Since(began).Round(100*time.Millisecond))
	<-stop.Done()
	if d, err := describeMirror(t, rest[0], topic); err != nil || d.State != "STOPPED" {
		t.Errorf("%+v %v", d, err)
	}
	f.stop()
	// What is there is the beginning of the source's, and then the topic's own.
	want := readFranz(t, source.Bootstrap(), topic, 0)
	byPlace := map[string]record{}
	for _, r := range want {
		byPlace[fmt.Sprint(r.partition, " ", r.offset)] = r
	}
	own, mirrored := 0, 0
	for _, r := range readFranz(t, rest[0].Bootstrap(), topic, 0) {
		if r.value == text([]byte("own")) {
			own++
		} else if byPlace[fmt.Sprint(r.partition, " ", r.offset)] != r || own > 0 && r.partition == 0 {
			mirrored = -1 << 30
			t.Errorf("%+v is not the source's", r)
		} else {
			mirrored++
		}
	}
	if own != 1 || mirrored < 1000 {
		t.Errorf("%d own records, %d mirrored", own, mirrored)
	}
	victim.Restart()
}

func isReadOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), kerr.InvalidRequest.Message)
}

// TestOneInstanceBeginsAtOnce: an instance that is alone begins to copy without a wait, at its
// start, after a restart, and after kill -9, when the group still has it as a member for the
// session time-out.
func TestOneInstanceBeginsAtOnce(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Start(t)
	begin := func(k *Klink, what string) {
		t.Helper()
		began := time.Now()
		instances{k}.awaitSpread(t)
		t.Logf("%s: the work was begun %v after klink was ready", what, time.Since(began).Round(time.Millisecond))
		if took := time.Since(began); took > sessionTimeout {
			t.Errorf("%s: it took %v, longer than the session time-out", what, took)
		}
	}
	k := StartKlink(t, destination)
	begin(k, "first start")
	k.Restart()
	begin(k, "restart")
	k.Kill()
	k.Restart()
	begin(k, "start after kill -9")
	if resp, err := http.Get("http://" + k.HTTP() + "/readyz"); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %v", resp, err)
	}
}

// TestInstancesDieInTheMiddleOfAStop: three instances copy one topic of 12 partitions together, and
// one after the other is killed while the mirror is being stopped. Nobody takes a write to it
// before it is STOPPED, and then it ends where it ended in every partition: nothing that the source
// has comes after that.
func TestInstancesDieInTheMiddleOfAStop(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	const partitions = 12
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source)
	all.awaitSpread(t)
	for round, topic := range []string{"orders", "payments", "clicks"} {
		if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
		awaitMirrorState(t, all[0], topic, "ACTIVE", "")
		f := startFeed(t, source, topic)
		f.awaitAcked(t, 2000)
		kafkatest.WaitFor(t, time.Minute, "all instances to copy "+topic, func() (bool, string) {
			shares, even := "", true
			for _, k := range all {
				n := strings.Count(k.Metrics(t), "klink_mirror_lag_offsets{link=\"east\",partition=") // of all topics that run
				even = even && n >= 2
				shares += fmt.Sprint(n, " ")
			}
			d, err := describeMirror(t, all[round], topic) // wherever they are copied
			mirrored := int64(0)
			for _, p := range d.Partitions {
				even = even && p.MirrorEndOffset > 0
				mirrored += p.MirrorEndOffset
			}
			return even && err == nil && len(d.Partitions) == partitions && mirrored > 1000, fmt.Sprintf("%s; %+v %v", shares, d, err)
		})
		coordinator := all.owner(t, topic)
		others := all.without(coordinator)
		// In turn: one that copies a part of it, the coordinator, and a part of it and the
		// coordinator.
		victims := [][]*Klink{{others[0]}, {coordinator}, {others[0], coordinator}}[round]
		rest := all
		for _, v := range victims {
			rest = rest.without(v)
		}
		// They stand still before they are killed, so that it is in the middle: not all partitions
		// can have ended.
		for _, v := range victims {
			if err := syscall.Kill(v.PID(t), syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		stop := rest[0].StartCLI(t, nil, "mirror", "failover", topic)
		awaitMirrorState(t, rest[0], topic, "PENDING_STOPPED", "")
		for _, v := range victims {
			v.Kill()
		}
		producer := kafkatest.NewClient(t, kgo.SeedBrokers(rest[0].Bootstrap()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		write := func(p int32) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("own")}).FirstErr()
		}
		for {
			err := write(0)
			if err == nil {
				break
			}
			if !isReadOnly(err) || time.Since(began) > 2*time.Minute {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("round %d: writes are taken %v after the stop was asked for", round, time.Since(began).Round(10*time.Millisecond))
		<-stop.Done()
		if d, err := describeMirror(t, rest[0], topic); err != nil || d.State != "STOPPED" {
			t.Errorf("%+v %v", d, err)
		}
		for p := range int32(partitions - 1) {
			if err := write(p + 1); err != nil {
				t.Errorf("partition %d: %v", p+1, err)
			}
		}
		for _, v := range victims {
			v.Restart() // whatever it had in mind
		}
		all.awaitSpread(t)
		f.awaitAcked(t, 500)
		f.stop()
		byPlace := map[string]record{}
		for _, r := range readFranz(t, source.Bootstrap(), topic, 0) {
			byPlace[fmt.Sprint(r.partition, " ", r.offset)] = r
		}
		own := map[int32]int{}
		for _, k := range rest {
			clear(own)
			for _, r := range readFranz(t, k.Bootstrap(), topic, 0) {
				switch {
				case r.value == text([]byte("own")):
					own[r.partition]++
				case own[r.partition] > 0:
					t.Errorf("%s: %+v comes after the end of the mirror", topic, r)
				case byPlace[fmt.Sprint(r.partition, " ", r.offset)] != r:
					t.Errorf("%s: %+v is not the source's", topic, r)
				}
			}
			for p := range int32(partitions) {
				if own[p] != 1 {
					t.Errorf("%s: partition %d has %d own records, want 1", topic, p, own[p])
				}
			}
		}
	}
}
