package replicator

import (
	"errors"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// notCaughtUp checks for a while that a promotion is not reported as caught up.
func (w *world) notCaughtUp(topic, why string) {
	w.t.Helper()
	for until := time.Now().Add(3 * lookInterval); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if w.control.seen(model.EventMirrorCaughtUp, topic) {
			w.t.Fatalf("reported as caught up, although %s", why)
		}
	}
}

// TestPromoteTakesTwoLooks: a mirror is reported as caught up after two looks for the same
// promotion, at a source that has not changed, with the mirror's end exactly there.
func TestPromoteTakesTwoLooks(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	p := promoter{r: w.r, looks: map[string]look{}}
	promotion, state := "a", model.MirrorActive
	// round runs one round for a promotion that Control's own state does not show, so that nobody
	// else looks at the source.
	round := func() (reported bool) {
		t.Helper()
		st := *w.control.State()
		st.Mirrors = maps.Clone(st.Mirrors)
		m := *st.Mirrors["orders"]
		m.Promotion, m.State = promotion, state
		st.Mirrors["orders"] = &m
		before := w.control.count(model.EventMirrorCaughtUp, "orders")
		if !p.round(t.Context(), &st) {
			t.Error("nothing is being promoted")
		}
		return w.control.count(model.EventMirrorCaughtUp, "orders") > before
	}
	// settled runs a round once the mirror's workers are idle.
	settled := func() bool {
		t.Helper()
		w.awaitCaughtUp("orders")
		w.await("the workers", func() (bool, string) { return w.r.mirror("orders").lag() == 0, "" })
		return round()
	}
	want := func(got, want bool, what string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: reported %v", what, got)
		}
	}
	want(settled(), false, "the first look")
	want(settled(), true, "the second look")
	want(settled(), true, "as long as the state does not show it")
	w.produce("orders", 1, 3, 20)
	want(settled(), false, "the source has more than at the look before")
	want(settled(), true, "and the second look at that")
	promotion = "b"
	want(settled(), false, "another promotion")
	want(settled(), true, "the second look of that")
	state = model.MirrorSourceUnavailable
	want(settled(), false, "the source is not there")
	state = model.MirrorActive
	want(settled(), false, "it is again")
	want(settled(), true, "the second look since")

	for name, key := range map[string]kmsg.Key{"ends": kmsg.ListOffsets, "leaders": kmsg.Metadata} {
		want(settled(), true, "before "+name+" are unknown")
		fault := src.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "orders", Err: kerr.UnknownServerError, Count: 1})
		want(round(), false, name+" unknown")
		fault.Remove()
		want(settled(), false, name+" known again")
		want(settled(), true, name+" known twice")
	}

	m := w.r.mirror("orders")
	m.mu.Lock()
	id := m.sourceID
	m.sourceID = [16]byte{9}
	m.mu.Unlock()
	want(round(), false, "the source's topic is another one")
	m.mu.Lock()
	m.sourceID = id
	m.mu.Unlock()
	want(settled(), false, "the right topic")

	for name, ends := range map[string][]int64{"fewer": {4, 3}, "more": {6, 3}, "one partition": {5}, "three": {5, 3, 0}} {
		if m.endsAt(ends) {
			t.Errorf("%s: a mirror that ends at 5 and 3 ends at %v", name, ends)
		}
	}
	if !m.endsAt([]int64{5, 3}) {
		t.Error("a mirror that ends at 5 and 3 does not end there")
	}
	want(round(), true, "nothing has changed")
}

// TestPromoteOfAnIdleMirror: an idle mirror is drained and stopped soon, even with an empty
// partition that begins anywhere.
func TestPromoteOfAnIdleMirror(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 0, 5, 20)
	w.produce("orders", 1, 7, 20)
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 1, 7)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	began := time.Now()
	w.control.promote("orders", "p")
	w.awaitState("orders", model.MirrorStopped)
	t.Logf("stopped after %v", time.Since(began))
	w.same("orders")
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	last := w.control.events[len(w.control.events)-1]
	if last.Kind != model.EventMirrorDrained || len(last.Ended) != 2 || last.Ended[0].Logical != 5 || last.Ended[1].Logical != 7 {
		t.Errorf("ended by %+v", last)
	}
}

// TestPromoteWhileItIsWritten: the mirror runs as long as the source is written to. Then it has
// everything and is stopped.
func TestPromoteWhileItIsWritten(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	var stop atomic.Bool
	written := make(chan struct{})
	go func() {
		defer close(written)
		for !stop.Load() {
			w.produce("orders", 0, 2, 20)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	w.control.promote("orders", "p")
	before := w.r.Status("orders")[0].MirrorEnd
	w.notCaughtUp("orders", "the source is written to")
	w.await("the mirror to go on", func() (bool, string) { return w.r.Status("orders")[0].MirrorEnd > before+10, "" })
	stop.Store(true)
	<-written
	w.awaitState("orders", model.MirrorStopped)
	w.same("orders")
}

// TestPromoteWaitsForTransactions: records above the last stable offset are not in the mirror, and
// may yet be committed.
func TestPromoteWaitsForTransactions(t *testing.T) {
	for name, c := range map[string]struct {
		end     kgo.TransactionEndTry
		aligned string
	}{"commit": {kgo.TryCommit, "off"}, "abort": {kgo.TryAbort, "off"}, "commit, aligned": {kgo.TryCommit, "auto"}} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := embedded(t)
			w.configs["offset.alignment"] = c.aligned
			w.topics("orders", 1)
			w.produce("orders", 0, 2, 20)
			w.mirror("orders")
			w.run()
			w.awaitState("orders", model.MirrorActive)
			cl := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			send(t, cl, "orders", 0, kafkatest.Records(3, 10)...)
			w.control.promote("orders", "p")
			w.notCaughtUp("orders", "a transaction is open")
			if err := cl.EndTransaction(t.Context(), c.end); err != nil {
				t.Fatal(err)
			}
			w.awaitState("orders", model.MirrorStopped)
			w.same("orders")
		})
	}
}

// TestPromoteFollowsNewPartitions: a partition that the source gets during the promotion is
// mirrored before the stop.
func TestPromoteFollowsNewPartitions(t *testing.T) {
	w, _, _ := embedded(t)
	w.configs["metadata.max.age.ms"] = "600000" // a look at the ends has to see it
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	grow := w.control.create
	var may atomic.Bool
	w.control.mu.Lock()
	w.control.create = func(topic string, n int32) error {
		if !may.Load() {
			return errors.New("not now")
		}
		return grow(topic, n)
	}
	w.control.mu.Unlock()
	if _, err := kadm.NewClient(w.src.cl).UpdatePartitions(t.Context(), 3, "orders"); err != nil {
		t.Fatal(err)
	}
	w.control.promote("orders", "p")
	w.notCaughtUp("orders", "two partitions are missing")
	fresh := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	send(t, fresh, "orders", 2, kafkatest.Records(5, 20)...)
	may.Store(true)
	w.awaitState("orders", model.MirrorStopped)
	if n := len(w.control.State().Timelines["orders"]); n != 3 {
		t.Errorf("%d partitions", n)
	}
	w.same("orders")
}

// TestPromoteOutlivesTheSource: a promotion waits for a source that has gone away, and goes on in
// another process that takes over the mirror.
func TestPromoteOutlivesTheSource(t *testing.T) {
	src, faults := faulty(t)
	dst := kafkatest.Embedded(t, 1)
	w := newWorld(t, src.ListenAddrs(), dst.ListenAddrs())
	w.configs["bootstrap.servers"] = faults.Addr()
	w.configs["availability.check.consecutive.failure.threshold"] = "2"
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.produce("orders", 0, 3, 20)
	faults.Stall()
	w.control.promote("orders", "p")
	w.await("the link to be down", func() (bool, string) { return w.control.State().Links[linkName].State == model.LinkUnavailable, "" })
	w.notCaughtUp("orders", "the source is away")
	w.stop()
	w.run()
	w.notCaughtUp("orders", "the source is away still")
	faults.Resume()
	w.awaitState("orders", model.MirrorStopped)
	w.same("orders")
}
