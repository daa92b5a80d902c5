package replicator

import (
	"testing"
	"time"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestNotEnoughReplicas: a mirror whose appends are refused for want of replicas waits between
// attempts, says so, and goes on when the replicas are back.
func TestNotEnoughReplicas(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	h := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: -1})
	began := time.Now()
	w.produce("orders", 1, 2, 20)
	m := w.awaitState("orders", model.MirrorSourceUnavailable)
	if m.Error != model.ErrNotEnoughReplicas {
		t.Errorf("error %s: %s", m.Error, m.ErrorMessage)
	}
	wantIn(t, m.ErrorMessage, "orders-1", "min.insync.replicas")
	// The other partition goes on, and that does not hide that this one waits.
	w.produce("orders", 0, 2, 20)
	w.await("the other partition", func() (bool, string) { return w.r.Status("orders")[0].MirrorEnd == 4, "" })
	if m := w.control.mirror("orders"); m.State != model.MirrorSourceUnavailable {
		t.Errorf("state %s while a partition waits", m.State)
	}
	// Pauses grow from 100 ms to 2 s, less a fifth.
	if n, most := h.Hits(), 6+int(time.Since(began)/(1600*time.Millisecond)); n > most {
		t.Errorf("%d appends were tried within %v, want at most %d", n, time.Since(began), most)
	}
	h.Remove()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.same("orders")
}
