package replicator

import (
	"fmt"
	"net"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestMemoryStaysBoundedWithAStalledDestination: 64 partitions with a backlog of 64 MiB and a
// budget of 8 MiB.
func TestMemoryStaysBoundedWithAStalledDestination(t *testing.T) {
	const budget, partitions, batchBytes = 8 << 20, 64, 128 << 10
	src := kafkatest.Embedded(t, 1)
	dst, faults := faulty(t)
	w := newWorld(t, src.ListenAddrs(), []string{faults.Addr()})
	w.cfg.MemoryBytes = budget
	w.topics("orders", partitions)
	for p := range int32(partitions) {
		for range 8 {
			w.produce("orders", p, 32, batchBytes/32)
		}
	}
	w.mirror("orders")
	began := dst.Fault(kfake.Fault{Topic: "orders", Observe: true, Count: -1})
	w.run()
	if err := began.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.await("appends", func() (bool, string) { return w.r.Stats().Produces > 2, "" })
	faults.Stall()
	// Wait until nothing more is fetched: every partition has filled its queue, or the budget is
	// used up.
	last, same := int64(-1), 0
	w.await("fetching to pause", func() (bool, string) {
		now := w.r.Stats().Links[linkName].FetchedBytes.Load()
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
		// A busy machine may make it pause for other reasons.
		return same > 100 && last-w.r.Stats().Links[linkName].AppendedBytes.Load() >= budget/4, fmt.Sprint(last)
	})
	last -= w.r.Stats().Links[linkName].AppendedBytes.Load() // before the destination fell silent
	faults.Resume()
	w.awaitCaughtUp("orders")
	s := w.r.Stats()
	if last > 2*budget {
		t.Errorf("%d bytes were fetched while the destination was silent", last)
	}
	t.Logf("held at most %d of %d bytes, fetched %d", s.PeakBufferedBytes, s.BudgetBytes, last)
	// A broker returns the first batch whole, whatever the fetch asked for. The rest of the
	// allowance is for what else a response and a batch contain.
	if s.PeakBufferedBytes > budget+batchBytes+32<<10 {
		t.Errorf("held %d bytes of a budget of %d", s.PeakBufferedBytes, budget)
	}
	w.same("orders")
	w.stop()
	if held, _ := w.r.budget.Usage(); held != 0 || w.r.budget.Left() != budget {
		t.Errorf("at the end %d bytes are held and %d free", held, w.r.budget.Left())
	}
}

// TestAStalledBrokerHoldsUpOnlyItsPartitions: with one of two destination brokers silent, the
// other's partitions get all of a backlog that is many times the budget.
func TestAStalledBrokerHoldsUpOnlyItsPartitions(t *testing.T) {
	src := kafkatest.Embedded(t, 1)
	var faults []*kafkatest.Faults
	dst := kafkatest.Embedded(t, 2, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		f := kafkatest.NewFaults(t, l.Addr().String())
		faults = append(faults, f)
		a, err := net.ResolveTCPAddr("tcp", f.Addr())
		return advertised{l, a}, err
	}))
	w := newWorld(t, src.ListenAddrs(), []string{faults[0].Addr()})
	w.cfg.MemoryBytes = 2 << 20
	w.topics("orders", 8)
	leader := func(p int32) int32 { return p % 2 }
	for p := range int32(8) {
		if err := dst.MoveTopicPartition("orders", p, leader(p)); err != nil {
			t.Fatal(err)
		}
		w.produce("orders", p, 1, 10)
	}
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	faults[1].Stall()
	for range 20 {
		for p := range int32(8) {
			w.produce("orders", p, 16, 4<<10)
		}
	}
	w.await("the partitions of the broker that answers", func() (bool, string) {
		st := w.r.Status("orders")
		for p := range int32(8) {
			if leader(p) == 0 && st[p].MirrorEnd != 1+20*16 {
				return false, ""
			}
		}
		return true, ""
	})
	for p, s := range w.r.Status("orders") {
		if leader(int32(p)) == 1 && s.MirrorEnd == s.SourceEnd {
			t.Errorf("partition %d of the silent broker got everything", p)
		}
	}
	faults[1].Resume()
	w.awaitCaughtUp("orders")
	w.same("orders")
}
