package replicator

import (
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEndAwaitsAppendInFlight: Run returns only after the append in flight, and appends nothing
// after it.
func TestEndAwaitsAppendInFlight(t *testing.T) {
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
	w.produce("orders", 0, 2, 20)
	w.produce("orders", 0, 2, 20)
	<-held
	ended := make(chan struct{})
	go func() { w.stop(); close(ended) }()
	m := w.r.mirror("orders")
	w.await("the end to be asked for", func() (bool, string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.stopping, ""
	})
	select {
	case <-ended:
		t.Error("ended with an append in flight")
	default:
	}
	close(let)
	<-ended
	if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2 {
		t.Errorf("the mirror ends at %d, want 2", end)
	}
}

// TestEndIsBounded: a destination that is silent does not keep Run from ending.
func TestEndIsBounded(t *testing.T) {
	src := kafkatest.Embedded(t, 1)
	dst, faults := faulty(t)
	w := newWorld(t, src.ListenAddrs(), []string{faults.Addr()})
	w.cfg.DrainTimeout = 200 * time.Millisecond
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	faults.Stall()
	sent := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	w.produce("orders", 0, 2, 20)
	w.await("an append in flight", func() (bool, string) {
		wk := w.r.mirror("orders").all()[0]
		wk.mu.Lock()
		defer wk.mu.Unlock()
		return wk.core.Flight > 0, ""
	})
	w.stop()
	if sent.Hits() > 0 {
		t.Error("the destination was not silent")
	}
	faults.Resume()
}
