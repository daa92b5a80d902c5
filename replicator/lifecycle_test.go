package replicator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wantIn checks that a message says all of the parts.
func wantIn(t *testing.T, message string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(message, p) {
			t.Errorf("message %q does not say %q", message, p)
		}
	}
}

func TestRestartGoesOnWhereTheMirrorEnds(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 0, 7, 20)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.stop()
	before := dst.PartitionInfo("orders", 0).HighWatermark
	w.produce("orders", 0, 5, 20)
	w.produce("orders", 1, 5, 20)
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	if before != 7 {
		t.Errorf("the mirror ended at %d after the first run", before)
	}
}

func TestPauseAndResume(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 1, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	for _, paused := range []model.MirrorState{model.MirrorPaused, model.MirrorLinkPaused} {
		w.control.setState("orders", paused)
		w.await("the mirror to end", func() (bool, string) { return w.r.mirror("orders") == nil, "" })
		end := dst.PartitionInfo("orders", 0).HighWatermark
		w.produce("orders", 0, 3, 20)
		if now := dst.PartitionInfo("orders", 0).HighWatermark; now != end {
			t.Errorf("%s: went on from %d to %d", paused, end, now)
		}
		w.control.setState("orders", model.MirrorActive)
		w.awaitCaughtUp("orders")
	}
	w.same("orders")
}

func TestLinkPaused(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	link := func(state model.LinkState) {
		w.control.change(func(s *model.State) {
			l := *s.Links[linkName]
			l.State = state
			s.Links[linkName] = &l
		})
	}
	link(model.LinkPaused)
	w.await("the mirror to end", func() (bool, string) { return w.r.mirror("orders") == nil, "" })
	w.produce("orders", 0, 3, 20)
	link(model.LinkActive)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestStopAwaitsAppendInFlight: drained is reported only when the append in flight has its result,
// and no append follows it.
func TestStopAwaitsAppendInFlight(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)

	held, let := make(chan struct{}), make(chan struct{})
	dst.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		dst.SleepControl(func() { close(held); <-let })
		return nil, nil, false
	})
	for range 5 {
		w.produce("orders", 0, 2, 20)
	}
	<-held
	w.control.setState("orders", model.MirrorPendingStopped)
	w.await("the mirror to stop fetching", func() (bool, string) {
		m := w.r.mirror("orders")
		if m == nil {
			return false, "gone"
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.stopping, "not stopping"
	})
	if w.control.seen(model.EventMirrorDrained, "orders") {
		t.Error("drained with an append in flight")
	}
	close(let)
	w.awaitState("orders", model.MirrorStopped)
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2 {
		t.Errorf("the mirror ends at %d, want 2: the batch in flight and no other", end)
	}
}

// TestStopSettlesUnknownAppend: an append whose result is unknown is read back before drained is
// reported.
func TestStopSettlesUnknownAppend(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	// The log cannot be read for now, so the append stays unknown.
	unread := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "orders", Count: -1, Err: nil})
	lost := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Count: -1})
	w.produce("orders", 0, 2, 20)
	if err := lost.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.control.setState("orders", model.MirrorPendingStopped)
	if err := unread.Wait(t.Context(), unread.Hits()+3); err != nil {
		t.Fatal(err)
	}
	if w.control.seen(model.EventMirrorDrained, "orders") {
		t.Error("drained with an unknown append")
	}
	unread.Remove()
	w.awaitState("orders", model.MirrorStopped)
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 0 {
		t.Errorf("the mirror ends at %d, want 0", end)
	}
}

func TestStopOfWhatDoesNotRun(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.mirror("orders")
	w.control.setState("orders", model.MirrorPendingStopped)
	w.run()
	w.awaitState("orders", model.MirrorStopped)
}

// TestResumeInTheMiddleOfABatch: the log start of the mirror lies in the middle of its only batch,
// and nothing else is known.
func TestResumeInTheMiddleOfABatch(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		w, _, _ := embedded(t)
		w.topics("orders", 1)
		w.produce("orders", 0, 10, 20)
		w.mirror("orders")
		w.run()
		w.awaitCaughtUp("orders")
		w.awaitState("orders", model.MirrorActive)
		w.stop()
		for _, c := range []cluster{w.src, w.dst} {
			kafkatest.DeleteRecordsBefore(t, c.cl, "orders", 0, 4)
		}
		if !checkpoint {
			clear(w.control.checkpoints)
		} else {
			w.control.checkpoints["orders-0"] = model.Checkpoint{Topic: "orders", Physical: 2, Logical: 2}
		}
		// This foreign batch makes klink read the whole log.
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(1, 5)...)
		w.produce("orders", 0, 2, 20)
		w.run()
		w.awaitCaughtUp("orders")
		w.same("orders")
		w.stop()
	}
}

// TestResumeBehindACheckpointFromBeforeTheFirstBatch: the source's log begins in the middle of a
// batch. klink is killed after that batch was appended and the mirror's log start has followed. The
// only checkpoint is still the one that names the log start.
func TestResumeBehindACheckpointFromBeforeTheFirstBatch(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	for range 3 {
		w.produce("orders", 0, 10, 20)
	}
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 14)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.await("the log start", func() (bool, string) { return dst.PartitionInfo("orders", 0).LogStartOffset == 4, "" })
	w.stop()
	w.control.checkpoints["orders-0"] = model.Checkpoint{Topic: "orders", Physical: 0, Logical: 14}
	w.produce("orders", 0, 2, 20)
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	if void := w.void("orders"); void != "" {
		t.Errorf("void: %s", void)
	}
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 22 {
		t.Errorf("the mirror's log ends at %d, want 22: batches were appended twice", end)
	}
}

// TestResumeBehindADeletedLog: retention at the destination has deleted every batch of the mirror,
// but not a second copy of the last one, which is void.
func TestResumeBehindADeletedLog(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	for range 3 {
		w.produce("orders", 0, 10, 20)
	}
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.stop()
	again := recordBatch(kafkatest.Records(10, 20))
	if err := batch.Stamp(again, 20, 0); err != nil {
		t.Fatal(err)
	}
	appendBytes(t, w.dst.cl, "orders", 0, again)
	kafkatest.DeleteRecordsBefore(t, w.dst.cl, "orders", 0, 30)
	w.control.checkpoints["orders-0"] = model.Checkpoint{Topic: "orders", Physical: 20, Logical: 20}
	w.produce("orders", 0, 2, 20)
	w.run()
	w.awaitCaughtUp("orders")
	if got := w.void("orders"); got != "orders-0 30 to 40" {
		t.Errorf("void: %q, want the second copy, 30 to 40", got)
	}
	// Nobody knows how much of the deleted part was void, so offsets 20 to 29 are mirrored once
	// more.
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 52 {
		t.Errorf("the mirror's log ends at %d, want 52", end)
	}
}

// TestStopBeforeTheFirstAppend: a log was to begin below the floor, and stayed empty. Its timeline
// ends at the floor.
func TestStopBeforeTheFirstAppend(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			w, _, dst := embedded(t)
			w.topics("orders", 1)
			w.produce("orders", 0, 10, 20)
			kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 4)
			w.mirror("orders")
			refused := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: kerr.NotEnoughReplicas, Count: -1})
			w.run()
			tl := w.control.State().Timelines["orders"][0]
			// Nothing is appended before the start is stored.
			w.await("an append to be refused", func() (bool, string) { return refused.Hits() > 0, "" })
			if restart {
				w.cfg.DrainTimeout = time.Millisecond
				w.stop()
				tl.Set(0, 4) // as a killed process leaves it
			}
			w.control.setState("orders", model.MirrorPendingStopped)
			if restart {
				w.run()
			}
			w.awaitState("orders", model.MirrorStopped)
			if end := dst.PartitionInfo("orders", 0).HighWatermark; end+tl.Shift() != 4 {
				t.Errorf("the mirror ends at logical offset %d, want 4", end+tl.Shift())
			}
		})
	}
}

func TestMirrorDeletedWithItsTopic(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	if err := dst.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	w.produce("orders", 0, 2, 20)
	w.control.change(func(s *model.State) { delete(s.Mirrors, "orders"); delete(s.Timelines, "orders") })
	w.await("the mirror to end", func() (bool, string) { return w.r.mirror("orders") == nil, "" })

	// The same name again is another mirror.
	kafkatest.CreateTopic(t, w.dst.cl, "orders", 1, -1, nil)
	w.mirror("orders")
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestForeignWrite: a batch that somebody else wrote to the destination is void, and the mirror
// goes on.
func TestForeignWrite(t *testing.T) {
	void := func(t *testing.T, w *world, want string) {
		t.Helper()
		if got := w.void("orders"); got != want {
			t.Errorf("void: %q, want %q", got, want)
		}
	}
	t.Run("while running", func(t *testing.T) {
		w, _, _ := embedded(t)
		w.topics("orders", 1)
		w.produce("orders", 0, 2, 20)
		w.mirror("orders")
		w.run()
		w.awaitCaughtUp("orders")
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(1, 5)...)
		w.produce("orders", 0, 2, 20)
		w.awaitCaughtUp("orders")
		w.produce("orders", 0, 3, 20)
		w.awaitCaughtUp("orders")
		w.awaitState("orders", model.MirrorActive)
		void(t, w, "orders-0 2 to 5") // klink's append, too, which landed behind it
		w.same("orders")
	})
	t.Run("while no replicator runs", func(t *testing.T) {
		w, _, _ := embedded(t)
		w.topics("orders", 1)
		w.produce("orders", 0, 2, 20)
		w.mirror("orders")
		w.run()
		w.awaitCaughtUp("orders")
		w.awaitState("orders", model.MirrorActive)
		w.stop()
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(3, 5)...)
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(1, 5)...)
		w.produce("orders", 0, 2, 20)
		w.run()
		w.awaitCaughtUp("orders")
		void(t, w, "orders-0 2 to 6")
		w.same("orders")
	})
	t.Run("before the first append", func(t *testing.T) {
		w, _, _ := embedded(t)
		w.topics("orders", 1)
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(1, 5)...)
		w.produce("orders", 0, 2, 20)
		w.mirror("orders")
		w.run()
		w.awaitCaughtUp("orders")
		void(t, w, "orders-0 0 to 1")
		w.same("orders")
	})
}

// TestLogStartInTheMiddleOfABatch: the mirror holds the whole batch, and shows what the source
// shows.
func TestLogStartInTheMiddleOfABatch(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	for range 3 {
		w.produce("orders", 0, 10, 20)
	}
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 14)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	tl := w.control.State().Timelines["orders"][0]
	if tl.Shift() != 10 || tl.Floor() != 14 {
		t.Errorf("shift %d floor %d, want 10 and 14", tl.Shift(), tl.Floor())
	}
	w.await("the log start", func() (bool, string) {
		i := dst.PartitionInfo("orders", 0)
		return i.LogStartOffset == 4, "at " + time.Duration(i.LogStartOffset).String()
	})
	w.same("orders")

	// The source deletes more, and the mirror follows.
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 25)
	w.produce("orders", 0, 1, 20)
	w.await("the log start to follow", func() (bool, string) {
		return dst.PartitionInfo("orders", 0).LogStartOffset == 15 && tl.Floor() == 25, ""
	})
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestNothingIsAppendedBeforeTheTimelineIsStored: a first batch that begins elsewhere waits.
func TestNothingIsAppendedBeforeTheTimelineIsStored(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 10, 20)
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 4)
	w.mirror("orders")
	hold := make(chan struct{})
	w.control.hold = hold
	produced := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Count: -1, Observe: true})
	w.run()
	w.await("the batch to be queued", func() (bool, string) {
		m := w.r.mirror("orders")
		if m == nil {
			return false, ""
		}
		wk := m.all()[0]
		wk.mu.Lock()
		defer wk.mu.Unlock()
		return wk.core.State == core.StateAnchoring && len(wk.core.Queue) == 1, wk.core.State.String()
	})
	if produced.Hits() > 0 {
		t.Error("appended before the timeline was stored")
	}
	w.control.mu.Lock()
	w.control.hold = nil
	w.control.mu.Unlock()
	close(hold)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

func TestLinkConfigChangeKeepsThePosition(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	m := w.r.mirror("orders")
	gone := src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		for _, t := range r.(*kmsg.FetchRequest).Topics { // none in a session without changes
			if t.Partitions[0].FetchOffset < 5 {
				return true
			}
		}
		return false
	}})
	w.control.change(func(s *model.State) {
		l := *s.Links[linkName]
		l.Configs = map[string]string{"bootstrap.servers": w.src.seeds[0], "client.id": "other", "fetch.max.wait.ms": "50"}
		s.Links[linkName] = &l
	})
	w.produce("orders", 0, 5, 20)
	w.awaitCaughtUp("orders")
	if w.r.mirror("orders") != m {
		t.Error("the mirror was started again")
	}
	if gone.Hits() > 0 {
		t.Error("fetched again what was mirrored")
	}
	w.same("orders")
}

// TestTransactions: what read_committed shows is mirrored. Markers and aborted transactions become
// holes, also after a restart.
func TestTransactions(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 2, 20)
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	transact := func(end kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		send(t, cl, "orders", 0, kafkatest.Records(3, 10)...)
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	transact(kgo.TryCommit)
	transact(kgo.TryAbort)
	transact(kgo.TryCommit)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	w.stop()
	transact(kgo.TryAbort)
	w.produce("orders", 0, 1, 20)
	transact(kgo.TryCommit)
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2+3+3+1+3 {
		t.Errorf("the mirror has %d records", end)
	}
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	if got := strings.Join(w.control.shifts, ", "); got != "orders-0 from 10: offset.alignment is off" {
		t.Errorf("shifts: %s", got)
	}
}

func TestStatus(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 1, 4, 20)
	w.mirror("orders")
	w.run()
	if w.r.Status("nothing") != nil {
		t.Error("a status of a topic that is not mirrored")
	}
	w.awaitCaughtUp("orders")
	w.await("status", func() (bool, string) {
		st := w.r.Status("orders")
		return len(st) == 2 && st[1].SourceEnd == 4 && st[1].MirrorEnd == 4 && !st[1].LastFetch.IsZero() && st[0].SourceEnd == 0, ""
	})
	s := w.r.Stats()
	if c := s.Links[linkName]; c.AppendedRecords.Load() != 4 || c.AppendedBatches.Load() != 1 || c.FetchedBatches.Load() != 1 {
		t.Errorf("counters %+v", c)
	}
	if len(s.Partitions) != 2 || s.Partitions[1].Offsets != 0 || s.Partitions[1].Partition != 1 || s.Partitions[1].Link != linkName {
		t.Errorf("partitions %+v", s.Partitions)
	}
}
