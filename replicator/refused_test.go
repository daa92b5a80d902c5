package replicator

import (
	"errors"
	"sync/atomic"
	"testing"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refusing makes a mirror that has two records, and whose destination answers all further appends
// with an error.
func refusing(t *testing.T, answer *kerr.Error) (w *world, dst *kfake.Cluster, refused *kfake.FaultHandle) {
	w, _, dst = embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	return w, dst, dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: answer, Count: -1})
}

// TestRefusedUntilTheConfigsFollow: a config of the source's topic has just changed, and a batch is
// refused because the mirror's config has not followed yet. The batch is appended once it has,
// without waiting for the next run of the task.
func TestRefusedUntilTheConfigsFollow(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp} {
		t.Run(answer.Message, func(t *testing.T) {
			w, dst, refused := refusing(t, answer)
			w.control.follow = func(string) (bool, error) {
				if w.control.looks.Load() == 1 {
					return false, nil // set, but the broker has not learned of it
				}
				refused.Remove()
				return true, nil
			}
			w.produce("orders", 0, 3, 20)
			w.awaitCaughtUp("orders")
			w.same("orders")
			if n := w.control.looks.Load(); n != 2 {
				t.Errorf("the configs were looked at %d times, want 2", n)
			}
			if m := w.control.mirror("orders"); m.State != model.MirrorActive {
				t.Errorf("state %s: %s", m.State, m.ErrorMessage)
			}
			// The count starts anew: another batch has its own chances.
			again := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: answer, Count: -1})
			w.control.looks.Store(0)
			w.control.follow = func(string) (bool, error) {
				if w.control.looks.Load() == looksToBelieve {
					again.Remove()
				}
				return true, nil
			}
			w.produce("orders", 0, 1, 20)
			w.awaitCaughtUp("orders")
			w.same("orders")
		})
	}
}

// TestRefusedWithTheRightConfigs: the refusal is final once the configs were found right often
// enough. The mirror then has the batches before the refused one.
func TestRefusedWithTheRightConfigs(t *testing.T) {
	w, dst, _ := refusing(t, kerr.MessageTooLarge)
	w.produce("orders", 0, 3, 20)
	m := w.awaitState("orders", model.MirrorFailed)
	if m.Error != model.ErrRecordTooLarge {
		t.Errorf("error %s", m.Error)
	}
	wantIn(t, m.ErrorMessage, "orders-0", "offsets 2 to 4", "max.message.bytes")
	if n := w.control.looks.Load(); n != looksToBelieve {
		t.Errorf("the configs were looked at %d times, want %d", n, looksToBelieve)
	}
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2 {
		t.Errorf("the mirror ends at %d, want 2", end)
	}
}

// TestRefusedWhileTheConfigsCannotFollow: while the configs cannot be made those of the source no
// refusal is final. The mirror says what it waits for, and goes on when they can.
func TestRefusedWhileTheConfigsCannotFollow(t *testing.T) {
	w, _, refused := refusing(t, kerr.MessageTooLarge)
	var allowed atomic.Bool
	w.control.follow = func(string) (bool, error) {
		if !allowed.Load() {
			return false, errors.New("ALTER_CONFIGS is missing")
		}
		refused.Remove()
		return false, nil
	}
	w.produce("orders", 0, 3, 20)
	m := w.awaitState("orders", model.MirrorSourceUnavailable)
	if m.Error != model.ErrRecordTooLarge {
		t.Errorf("error %s", m.Error)
	}
	wantIn(t, m.ErrorMessage, "orders-0", "offset 2", "ALTER_CONFIGS is missing")
	if n := w.control.looks.Load(); n <= looksToBelieve {
		t.Errorf("the configs were looked at %d times", n)
	}
	allowed.Store(true)
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestStoppedWhileTheConfigsCannotFollow: a mirror that waits for a config can be stopped.
func TestStoppedWhileTheConfigsCannotFollow(t *testing.T) {
	w, dst, _ := refusing(t, kerr.MessageTooLarge)
	w.control.follow = func(string) (bool, error) { return false, errors.New("no") }
	w.produce("orders", 0, 3, 20)
	w.await("a look", func() (bool, string) { return w.control.looks.Load() > 0, "" })
	w.control.setState("orders", model.MirrorPendingStopped)
	w.awaitState("orders", model.MirrorStopped)
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2 {
		t.Errorf("the mirror ends at %d, want 2", end)
	}
}
