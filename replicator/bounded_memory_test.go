package replicator

import (
	"fmt"
	"net"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestMemoryStaysBoundedWithAStalledDestination: 64 partitions with a backlog of 64 MiB and a
// budget of 8 MiB. The first quarter of the backlog comes while the destination is silent.
func TestMemoryStaysBoundedWithAStalledDestination(t *testing.T) {
	const budget, partitions, batchBytes = 8 << 20, 64, 128 << 10
	src := kafkatest.Embedded(t, 1)
	_, faults := faulty(t)
	w := newWorld(t, src.ListenAddrs(), []string{faults.Addr()})
	w.cfg.MemoryBytes = budget
	w.topics("orders", partitions)
	produce := func(batches, records, bytes int) {
		for p := range int32(partitions) {
			for range batches {
				w.produce("orders", p, records, bytes)
			}
		}
	}
	produce(1, 1, 10)
	w.mirror("orders")
	w.run()
	// A partition fetches nothing before it has read its log at the destination.
	w.awaitCaughtUp("orders")
	faults.Stall()
	produce(2, 32, batchBytes/32)
	// Nothing is released while the destination is silent, so fetching pauses when no fetch has a
	// reservation and the budget has no room for one.
	w.await("fetching to pause", func() (bool, string) {
		held, _ := w.r.budget.Usage()
		left, copies := w.r.budget.Left(), budget-w.r.budget.Reservable()
		return held+left == budget && left-copies < w.r.reservation(maxFetchBytes), fmt.Sprint(held, " held, ", left, " left")
	})
	link := w.r.Stats().Links[linkName]
	last := link.FetchedBytes.Load() - link.AppendedBytes.Load()
	faults.Resume()
	produce(6, 32, batchBytes/32)
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
