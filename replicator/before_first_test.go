package replicator

import (
	"errors"
	"fmt"
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"
	"klink/protocol/timeline"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// middle makes a source whose log starts in the middle of a batch: at 14, in a batch that begins at
// 10. The mirror's topic has an empty log at the offset physical, as if it had been emptied before
// it became a mirror. So until the first batch is in the log, the stored end of the mirror lies in
// the middle of the batch that comes.
func middle(t *testing.T, physical int64) (w *world, dst *kfake.Cluster) {
	w, _, dst = embedded(t)
	w.topics("orders", 1)
	for range 3 {
		w.produce("orders", 0, 10, 20)
	}
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 14)
	if physical > 0 {
		appendBatch(t, w.dst.cl, "orders", 0, kafkatest.Records(int(physical), 5)...)
		kafkatest.DeleteRecordsBefore(t, w.dst.cl, "orders", 0, physical)
	}
	w.mirror("orders")
	w.control.change(func(s *model.State) { s.Timelines["orders"] = []*timeline.Partition{timeline.New(physical, 14, 14)} })
	return w, dst
}

// whole checks that the mirror has everything once, up to the physical offset end.
func (w *world) whole(dst *kfake.Cluster, end int64) {
	w.t.Helper()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.await("the log start", func() (bool, string) {
		at := dst.PartitionInfo("orders", 0).LogStartOffset
		return at == end-16, fmt.Sprint(at)
	})
	w.same("orders")
	if void := w.void("orders"); void != "" {
		w.t.Errorf("void: %s", void)
	}
	if got := dst.PartitionInfo("orders", 0).HighWatermark; got != end {
		w.t.Errorf("the mirror's log ends at %d, want %d", got, end)
	}
}

// TestRestartBeforeTheFirstBatch: klink is started again before the first batch of an ACTIVE mirror
// is in the log.
func TestRestartBeforeTheFirstBatch(t *testing.T) {
	for _, physical := range []int64{0, 50} {
		t.Run(fmt.Sprint("from physical ", physical), func(t *testing.T) {
			w, dst := middle(t, physical)
			w.control.setState("orders", model.MirrorActive)
			denied := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
			w.run()
			w.await("an append to be refused", func() (bool, string) { return denied.Hits() > 0, "" })
			w.stop()
			w.run()
			w.await("an append to be refused again", func() (bool, string) { return denied.Hits() > 2, "" })
			denied.Remove()
			w.whole(dst, physical+20)
		})
	}
}

// TestKilledBeforeTheFirstBatch: like TestRestartBeforeTheFirstBatch, but not even the start of the
// timeline was stored, as while a transaction is open at the source's log start.
func TestKilledBeforeTheFirstBatch(t *testing.T) {
	for _, physical := range []int64{0, 50} {
		t.Run(fmt.Sprint("from physical ", physical), func(t *testing.T) {
			w, dst := middle(t, physical)
			w.control.setState("orders", model.MirrorActive)
			w.run()
			w.whole(dst, physical+20)
		})
	}
}

// TestUnknownResultOfTheFirstAppend: the first batch is appended, but klink does not get the
// answer.
func TestUnknownResultOfTheFirstAppend(t *testing.T) {
	for _, physical := range []int64{0, 50} {
		t.Run(fmt.Sprint("from physical ", physical), func(t *testing.T) {
			w, dst := middle(t, physical)
			w.grace = settleGrace
			broken := false
			dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				dst.KeepControl()
				if broken {
					return nil, nil, false
				}
				broken = true
				go func(r kmsg.ProduceRequest) {
					_, _ = w.dst.cl.Broker(0).Request(t.Context(), &r)
				}(copyProduce(req.(*kmsg.ProduceRequest)))
				return nil, errors.New("broken by the test"), true
			})
			w.run()
			w.whole(dst, physical+20)
		})
	}
}

// TestKilledBehindTheFirstAppend: a checkpoint is stored while the first batch waits to be
// appended. Then klink is killed after the append, before the mirror's log start follows.
func TestKilledBehindTheFirstAppend(t *testing.T) {
	for _, physical := range []int64{0, 50} {
		t.Run(fmt.Sprint("from physical ", physical), func(t *testing.T) {
			w, dst := middle(t, physical)
			hold := make(chan struct{})
			w.control.hold = hold
			w.run()
			w.await("the first batch to wait", func() (bool, string) {
				m := w.r.mirror("orders")
				if m == nil {
					return false, ""
				}
				wk := m.all()[0]
				wk.mu.Lock()
				defer wk.mu.Unlock()
				return wk.core.State == core.StateAnchoring && len(wk.core.Queue) > 0, wk.core.State.String()
			})
			w.r.checkpoint(t.Context(), w.r.mirrorsNow())
			w.stop()
			w.control.hold = nil
			w.control.setState("orders", model.MirrorActive)
			w.control.change(func(s *model.State) { s.Timelines["orders"][0] = timeline.New(physical, 10, 14) })
			first := rawBatches(t, w.src, "orders", 0, 14)[0]
			if err := batch.Stamp(first, 10, 0); err != nil {
				t.Fatal(err)
			}
			batch.SetPlace(first, physical)
			appendBytes(t, w.dst.cl, "orders", 0, first)
			w.run()
			w.whole(dst, physical+20)
		})
	}
}

// TestKilledWhileBurning: klink is killed while it burns offsets of an ACTIVE mirror, or after it
// has burned all of them, before that is stored. A mirror is ACTIVE that early if, for example, its
// first batch was part of a transaction that was open for long.
func TestKilledWhileBurning(t *testing.T) {
	for _, burned := range []int64{5, 10} {
		t.Run(fmt.Sprint(burned, " of 10"), func(t *testing.T) {
			w, dst := middle(t, 0)
			w.configs["offset.alignment"] = "auto"
			w.control.setState("orders", model.MirrorActive)
			appendBytes(t, w.dst.cl, "orders", 0, batch.Filler(nil, int(burned), 0))
			if burned == 10 {
				kafkatest.DeleteRecordsBefore(t, w.dst.cl, "orders", 0, burned)
			}
			w.run()
			w.whole(dst, 30)
			if got := w.control.State().Timelines["orders"][0].Shift(); got != 0 {
				t.Errorf("the shift is %d, want 0", got)
			}
		})
	}
}

// TestFillersOfTwoProcesses: a filler of a killed process arrives after the next process has read
// where the log ends. So the second process's filler stands behind it, not at its place. Then the
// second process is killed, too.
func TestFillersOfTwoProcesses(t *testing.T) {
	w, dst := middle(t, 0)
	w.configs["offset.alignment"] = "auto"
	w.control.setState("orders", model.MirrorActive)
	for _, at := range []int64{0, 3, 3} {
		appendBytes(t, w.dst.cl, "orders", 0, batch.Filler(nil, 3, at))
	}
	w.run()
	w.whole(dst, 30)
	if got := w.control.State().Timelines["orders"][0].Shift(); got != 0 {
		t.Errorf("the shift is %d, want 0", got)
	}
}
