package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// writer writes numbered records to a topic, over all its partitions, until it is stopped.
type writer struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	acked []record
	err   error
}

func startWriter(t testing.TB, bootstrap, topic, prefix string) *writer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{cancel: cancel, done: make(chan struct{})}
	cl := connect(t, bootstrap, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(time.Millisecond))
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil; i++ {
			cl.Produce(context.Background(), kgo.KeyStringRecord(fmt.Sprint(i), fmt.Sprint(prefix, " ", i)), func(r *kgo.Record, err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if err != nil {
					w.err = err
					return
				}
				w.acked = append(w.acked, toRecord(r))
			})
			time.Sleep(2 * time.Millisecond)
		}
		if err := cl.Flush(context.Background()); err != nil {
			w.err = err
		}
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// stop ends the writer and returns how many records it has written, each of them confirmed.
func (w *writer) stop(t testing.TB) int {
	t.Helper()
	w.cancel()
	<-w.done
	if w.err != nil {
		t.Fatal(w.err)
	}
	return len(w.acked)
}

// awaitDone waits for a command to end with an exit code.
func awaitDone(t testing.TB, c *Command, code int) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(2 * time.Minute):
		t.Fatalf("the command does not end\n%s%s", c.Stdout(), c.Stderr())
	}
	if c.ExitCode() != code {
		t.Fatalf("exit code %d, want %d\n%s%s", c.ExitCode(), code, c.Stdout(), c.Stderr())
	}
}

// wantMoved checks a promoted mirror through klink with three clients: it has every record of the
// source at its offset, then, from the source's end on, the records that were written to it since,
// all exactly once.
func (e *exact) wantMoved(t *testing.T, topic string, partitions int32, own []record) {
	t.Helper()
	source := readCommitted(t, e.source.Bootstrap(), topic)
	ends := strings.Fields(listOffsets(e.ctx, t, e.source.Client(t), topic, partitions, -1))
	next := map[int32]int64{}
	for p, end := range ends {
		next[int32(p)] = atoi(end)
	}
	byPartition := map[int32][]record{}
	for _, r := range source {
		byPartition[r.partition] = append(byPartition[r.partition], r)
	}
	for _, r := range own {
		if r.offset != next[r.partition] {
			t.Fatalf("the writer's record %q has offset %d in partition %d, want %d", r.value, r.offset, r.partition, next[r.partition])
		}
		next[r.partition]++
		byPartition[r.partition] = append(byPartition[r.partition], r)
	}
	var want []record
	for p := range partitions {
		want = append(want, byPartition[p]...)
	}
	assertSame(t, topic+" by franz-go, read_committed", want, readCommitted(t, e.k.Bootstrap(), topic))
	for _, r := range readers() {
		assertSame(t, topic+" by "+r.name, want, r.read(t, e.k.Bootstrap(), topic, len(want)))
	}
}

// TestPromoteUnderLoad: a mirror is promoted while its source is written to. It goes on until the
// writer stops, and has then every record; the writer moves to it, and goes on at the source's end;
// a consumer that was there all the time has each record once.
func TestPromoteUnderLoad(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"orders"}, grants: []string{grantMarkers}})
	const topic, partitions = "orders", 3
	e.createSource(t, topic, partitions)
	transact(e.ctx, t, e.source, topic, "a", partitions, 10, 5)
	e.mirror(t, topic)
	awaitMirror(t, e.k, e.source, topic)
	crossing := consumeAcross(t, e.k.Bootstrap(), "crossing", topic)
	w := startWriter(t, e.source.Bootstrap(), topic, "source")
	promote := e.k.StartCLI(t, nil, "mirror", "promote", topic, "--timeout", "3m")
	awaitMirrorState(t, e.k, topic, "PENDING_STOPPED", "")
	time.Sleep(7 * time.Second)
	select {
	case <-promote.Done():
		t.Fatalf("promoted while the source is written to\n%s%s", promote.Stdout(), promote.Stderr())
	default:
	}
	if !strings.Contains(promote.Stderr(), "promoting: 1 of 1 mirrors left") {
		t.Errorf("no progress is shown: %q", promote.Stderr())
	}
	if err := connect(t, e.k.Bootstrap(), kgo.DefaultProduceTopic(topic), kgo.RecordRetries(0)).
		ProduceSync(e.ctx, kgo.StringRecord("too early")).FirstErr(); err == nil {
		t.Error("a mirror that is being promoted takes a record")
	}
	n := w.stop(t)
	began := time.Now()
	awaitDone(t, promote, 0)
	t.Logf("%d records while it was promoted; stopped %v after the last", n, time.Since(began))
	if d := awaitMirrorState(t, e.k, topic, "STOPPED", ""); !d.DirectAccess.Possible {
		t.Errorf("%+v", d)
	}
	w = startWriter(t, e.k.Bootstrap(), topic, "destination")
	time.Sleep(time.Second)
	w.stop(t)
	e.wantMoved(t, topic, partitions, w.acked)
	all := len(readCommitted(t, e.k.Bootstrap(), topic))
	crossing.await(t, all)
	if out := e.k.MustCLI(t, "mirror", "promote", topic); !strings.Contains(out, "Stopped") {
		t.Errorf("promoted once more: %q", out)
	}
}

// beginTransaction leaves a transaction with a record open at the source.
func (e *exact) beginTransaction(t *testing.T, topic, id string) *kgo.Client {
	t.Helper()
	tx := e.source.Client(t, kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(e.ctx, &kgo.Record{Topic: topic, Value: []byte("open " + id)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestPromoteWaitsForAnOpenTransaction: a mirror without lag below the source's last stable offset
// is not at the source's end.
func TestPromoteWaitsForAnOpenTransaction(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t))
	for name, end := range map[string]kgo.TransactionEndTry{"committed": kgo.TryCommit, "aborted": kgo.TryAbort} {
		t.Run(name, func(t *testing.T) {
			e.createSource(t, name, 1)
			produceVaried(e.ctx, t, e.source, name, 0, 10)
			e.mirror(t, name)
			awaitMirror(t, e.k, e.source, name)
			tx := e.beginTransaction(t, name, name)
			produceVaried(e.ctx, t, e.source, name, 0, 10) // behind it
			kafkatest.WaitFor(t, time.Minute, "the transaction to be seen", func() (bool, string) {
				out := e.k.MustCLI(t, "mirror", "promote", "--dry-run", name)
				return strings.Contains(out, "no: it waits for a transaction that is open at the source"), out
			})
			promote := e.k.StartCLI(t, nil, "mirror", "promote", name)
			awaitMirrorState(t, e.k, name, "PENDING_STOPPED", "")
			time.Sleep(3 * time.Second)
			if d, err := describeMirror(t, e.k, name); err != nil || d.State != "PENDING_STOPPED" || !strings.Contains(d.ErrorMessage, "a transaction is open at the source in partition 0") {
				t.Errorf("%+v, %v", d, err)
			}
			if err := tx.EndTransaction(e.ctx, end); err != nil {
				t.Fatal(err)
			}
			awaitDone(t, promote, 0)
			w := startWriter(t, e.k.Bootstrap(), name, "destination")
			time.Sleep(200 * time.Millisecond)
			w.stop(t)
			e.wantMoved(t, name, 1, w.acked)
		})
	}
}

// TestPromoteTimesOut: the promotion of a mirror that cannot have all of its source in time is
// taken back. The mirror is read-only and goes on, and can be promoted once it has everything.
func TestPromoteTimesOut(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t))
	const partitions = 2
	const topic = "orders"
	e.createSource(t, topic, partitions)
	e.mirror(t, topic)
	awaitMirrorState(t, e.k, topic, "ACTIVE", "")
	// However slow or fast the machine is, the mirror cannot have all of its source while this
	// transaction is open.
	tx := e.beginTransaction(t, topic, "open")
	w := startWriter(t, e.source.Bootstrap(), topic, "source")
	stdout, stderr, code := e.k.CLI(t, "mirror", "promote", topic, "--timeout", "3s")
	if code != 1 || stdout != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, part := range []string{"REQUEST_TIMED_OUT", "'" + topic + "' was not promoted in the time allowed, and is ACTIVE again", "stop the topic's producers", "fail it over"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q does not say %q", stderr, part)
		}
	}
	d := awaitMirrorState(t, e.k, topic, "ACTIVE", "")
	if d.ErrorMessage != "" {
		t.Errorf("%+v", d)
	}
	if err := connect(t, e.k.Bootstrap(), kgo.DefaultProduceTopic(topic), kgo.RecordRetries(0)).
		ProduceSync(e.ctx, kgo.StringRecord("too early")).FirstErr(); err == nil {
		t.Error("a mirror whose promotion was taken back takes a record")
	}
	if err := tx.EndTransaction(e.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	w.stop(t)
	e.compare(t, topic, partitions)
	// By stock tools, too.
	if out, err := e.source.Tool(t, "kafka.admin.ConfigCommand", "--bootstrap-server", e.k.Bootstrap(), "--entity-type", "topics", "--entity-name", topic, "--alter", "--add-config", "mirror.state=PROMOTED"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	awaitMirrorState(t, e.k, topic, "STOPPED", "")
	w = startWriter(t, e.k.Bootstrap(), topic, "destination")
	time.Sleep(200 * time.Millisecond)
	w.stop(t)
	e.wantMoved(t, topic, partitions, w.acked)
}

// TestFailoverWithTheSourceDead: at once, before klink has noticed and after. What is left behind
// is told as far as anybody knows.
func TestFailoverWithTheSourceDead(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"early", "late", "behind"}})
	for _, topic := range []string{"early", "late", "behind"} {
		e.createSource(t, topic, 1)
		produceVaried(e.ctx, t, e.source, topic, 0, 20)
		e.mirror(t, topic)
		awaitMirror(t, e.k, e.source, topic)
	}
	e.beginTransaction(t, "behind", "open")
	produceVaried(e.ctx, t, e.source, "behind", 0, 4)
	kafkatest.WaitFor(t, time.Minute, "the lag to be seen", func() (bool, string) {
		d, err := describeMirror(t, e.k, "behind")
		return err == nil && d.Partitions[0].Lag == 5, fmt.Sprintf("%+v %v", d, err)
	})
	want := map[string][]record{}
	for _, topic := range []string{"early", "late", "behind"} {
		want[topic] = readCommitted(t, e.k.Bootstrap(), topic)
	}
	e.source.Brokers()[0].Kill()
	out := e.k.MustCLI(t, "mirror", "failover", "early", "behind")
	// Where the stop came more than three seconds after the source's last answer, as on a busy
	// machine, klink says that there may be more.
	rows := strings.Join(strings.Fields(out), " ")
	if !regexp.MustCompile(`behind \| 0 \| 25 \| (- \| 5|\S+ \| at least 5)`).MatchString(rows) ||
		strings.Contains(rows, " early | ") && !regexp.MustCompile(`early \| 0 \| 20 \| \S+ \| at least 0`).MatchString(rows) {
		t.Errorf("%s", out)
	}
	// The mirrors that are stopped tell it still, when klink has been started anew.
	awaitLink := func() {
		kafkatest.WaitFor(t, time.Minute, "the source to be missed", func() (bool, string) {
			d, err := describeMirror(t, e.k, "late")
			return err == nil && d.State == "SOURCE_UNAVAILABLE", fmt.Sprintf("%+v %v", d, err)
		})
	}
	awaitLink()
	_, stderr, code := e.k.CLI(t, "mirror", "promote", "late")
	if code != 1 || !strings.Contains(stderr, "its source is unavailable") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	began := time.Now()
	out = e.k.MustCLI(t, "mirror", "failover", "--link", "east", "--all")
	t.Logf("failed over in %v", time.Since(began))
	late, err := describeMirror(t, e.k, "late")
	if err != nil || late.Partitions[0].LastFetchTime == nil {
		t.Fatalf("%+v %v", late, err)
	}
	wantRow(t, out, "late", "0", "20", *late.Partitions[0].LastFetchTime, "at least 0")
	e.k.Restart()
	d, err := describeMirror(t, e.k, "behind")
	if err != nil || d.Partitions[0].Lag != 5 || d.Partitions[0].SourceEndOffset != 25 {
		t.Errorf("%+v %v", d, err)
	}
	for topic, want := range want {
		w := startWriter(t, e.k.Bootstrap(), topic, "destination")
		time.Sleep(200 * time.Millisecond)
		w.stop(t)
		want = append(want, w.acked...)
		assertSame(t, topic, want, readCommitted(t, e.k.Bootstrap(), topic))
		for _, r := range readers() {
			assertSame(t, topic+" by "+r.name, want, r.read(t, e.k.Bootstrap(), topic, len(want)))
		}
	}
}

// TestPromoteSurvivesKillNine: a klink that is killed in the middle of a promotion leaves it to the
// next one, which mirrors on, and ends it, or takes it back in time. Killed at any other moment the
// command can be repeated, with the same result.
func TestPromoteSurvivesKillNine(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"waits", "late", "killed-"}, grants: []string{grantMarkers}})
	for _, topic := range []string{"waits", "late"} {
		e.createSource(t, topic, 2)
		produceVaried(e.ctx, t, e.source, topic, 0, 20)
		e.mirror(t, topic)
		awaitMirror(t, e.k, e.source, topic)
	}
	tx, open := e.beginTransaction(t, "waits", "one"), e.beginTransaction(t, "late", "two")
	e.k.StartCLI(t, nil, "mirror", "promote", "waits", "--timeout", "5m")
	e.k.StartCLI(t, nil, "mirror", "promote", "late", "--timeout", "8s")
	awaitMirrorState(t, e.k, "waits", "PENDING_STOPPED", "")
	awaitMirrorState(t, e.k, "late", "PENDING_STOPPED", "")
	e.k.Kill()
	produceVaried(e.ctx, t, e.source, "waits", 1, 20)
	e.k.Restart()
	if d := awaitMirrorState(t, e.k, "waits", "PENDING_STOPPED", ""); !strings.Contains(d.ErrorMessage, "the promotion is in progress") {
		t.Errorf("%+v", d)
	}
	kafkatest.WaitFor(t, time.Minute, "the promoted mirror to go on", func() (bool, string) {
		d, err := describeMirror(t, e.k, "waits")
		return err == nil && d.Partitions[1].MirrorEndOffset == 20, fmt.Sprintf("%+v %v", d, err)
	})
	// A command that waits through a kill may have asked again, and so for more time; at the
	// longest the time that it asked for.
	awaitMirrorState(t, e.k, "late", "ACTIVE", "")
	again := e.k.StartCLI(t, nil, "mirror", "promote", "waits")
	if err := tx.EndTransaction(e.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, again, 0)
	e.wantMoved(t, "waits", 2, nil)
	if err := open.EndTransaction(e.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	e.compare(t, "late", 2)

	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 6 {
		topic := fmt.Sprint("killed-", i)
		e.createSource(t, topic, 2)
		transact(e.ctx, t, e.source, topic, topic, 2, 5, 3)
		e.mirror(t, topic)
		awaitMirror(t, e.k, e.source, topic)
		e.k.StartCLI(t, nil, "mirror", "promote", topic)
		wait := time.Duration(rng.IntN(900)) * time.Millisecond
		time.Sleep(wait)
		e.k.Kill()
		e.k.Restart()
		e.k.MustCLI(t, "mirror", "promote", topic)
		d := awaitMirrorState(t, e.k, topic, "STOPPED", "")
		t.Logf("killed after %v: %s", wait, d.State)
		w := startWriter(t, e.k.Bootstrap(), topic, "destination")
		time.Sleep(100 * time.Millisecond)
		w.stop(t)
		e.wantMoved(t, topic, 2, w.acked)
	}
}
