package replicator

import (
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAHoleAtTheEndIsStoredBeforeItIsShown: a client stands behind the marker with which the source
// ends. klink is killed and started again, and the source does not answer. The client is not out of
// range.
func TestAHoleAtTheEndIsStoredBeforeItIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		end     kgo.TransactionEndTry
		records int // of the transaction, in the log
	}{
		"behind records":            {end: kgo.TryCommit, records: 3},
		"in a log without a record": {end: kgo.TryAbort},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := embedded(t)
			w.topics("orders", 1)
			cl := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			send(t, cl, "orders", 0, kafkatest.Records(3, 10)...)
			if err := cl.EndTransaction(t.Context(), c.end); err != nil {
				t.Fatal(err)
			}
			held := make(chan chan struct{})
			w.control.holdCheckpoints = held
			w.mirror("orders")
			w.run()
			line := w.control.State().Timelines["orders"][0]
			shown := func() (logical int64) {
				logical, _, _ = line.FindLogical(int64(c.records))
				return logical
			}
			// A checkpoint that began before the marker was seen may be held first.
			var stored chan struct{}
			w.await("the hole to be stored", func() (bool, string) {
				stored = <-held
				m := w.r.mirror("orders").all()[0]
				m.mu.Lock()
				ends := m.endsInHole()
				m.mu.Unlock()
				if !ends {
					close(stored)
				}
				return ends, ""
			})
			if st := w.r.Status("orders")[0]; st.MirrorEnd != int64(c.records) || shown() != int64(c.records) {
				t.Errorf("while the hole is not stored the mirror ends at %d, clients are told %d; want %d", st.MirrorEnd, shown(), c.records)
			}
			if p, _, ok := line.FindPhysical(4, 0); !ok || p >= 0 {
				t.Errorf("while the hole is not stored the offset behind it is the destination's %d, %v", p, ok)
			}
			w.control.mu.Lock()
			w.control.holdCheckpoints = nil
			w.control.mu.Unlock()
			close(stored)
			w.awaitCaughtUp("orders")
			if shown() != 4 {
				t.Errorf("clients are told that the mirror ends at %d, want 4", shown())
			}
			w.stop()

			// What another process knows before it has asked the source:
			kept, ok := w.control.LastCheckpoint("orders", 0)
			kept.Epoch, kept.EpochEnd = 0, 0 // see truncation_test.go
			if !ok || kept != (model.Checkpoint{Topic: "orders", Physical: int64(c.records), Logical: 4}) {
				t.Fatalf("stored: %+v, %v", kept, ok)
			}
			fresh := timeline.Open(0, 0, 0)
			fresh.LearnProbe(kept.Physical, kept.Logical, 0)
			if p, _, ok := fresh.FindPhysical(4, 0); !ok || p != int64(c.records) {
				t.Errorf("to another process offset 4 is the destination's %d, %v; want %d", p, ok, c.records)
			}
			w.control.change(func(s *model.State) { s.Timelines["orders"] = []*timeline.Partition{fresh} })
			line = fresh
			w.produce("orders", 0, 2, 20)
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
		})
	}
}
