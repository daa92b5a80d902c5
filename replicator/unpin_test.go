package replicator

import (
	"testing"

	"klink/admin/linkconfig"
	"klink/internal/batchtest"
	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"
)

// pin returns workers that each have a batch of a frame in their queues.
func pin(m *mirror, f *memory.Frame, batches, size int) (workers []*worker) {
	for n := range batches {
		w := newWorker(m, int32(n), nil)
		f.Keep()
		w.core.Queue = []core.Item{{Bytes: f.Mem[n*size:][:size], Records: 1, Frame: f}}
		workers = append(workers, w)
	}
	f.Release()
	return workers
}

// TestCopiesStayWithinTheBudget: all that can be reserved is held by four frames, each of which 5
// slow partitions keep in memory. klink copies their batches, never takes more than the budget for
// that, and frees the frames but for one that an append in flight keeps.
func TestCopiesStayWithinTheBudget(t *testing.T) {
	const budget, frames, each, batchBytes = 8 << 20, 4, 5, 128 << 10
	r := &Replicator{budget: memory.NewBudget(budget)}
	m := &mirror{r: r, mirrorKey: mirrorKey{topic: "orders"}}
	size := r.budget.Reservable() / frames
	var workers []*worker
	for range frames {
		if err := r.budget.Reserve(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		workers = append(workers, pin(m, r.budget.Read(size, size), each, batchBytes)...)
	}
	if held, _ := r.budget.Usage(); held != r.budget.Reservable() || !r.budget.Scarce() {
		t.Fatalf("%d bytes are held: this is no test", held)
	}
	flying := workers[0].core.Queue[0].Frame
	workers[0].core.Flight = 1
	unpin(r.budget, workers)
	held, peak := r.budget.Usage()
	if peak > budget {
		t.Errorf("%d bytes were held of a budget of %d", peak, budget)
	}
	if want := size + (frames-1)*each*batchBytes; held != want {
		t.Errorf("%d bytes are held, want %d", held, want)
	}
	for n, w := range workers {
		if i := w.core.Queue[0]; (i.Frame == flying) != (n < each) || len(i.Bytes) != batchBytes {
			t.Errorf("partition %d holds a frame of %d bytes for %d", n, i.Frame.Size, len(i.Bytes))
		}
	}
}

// TestCopiesThatFreeNothing: what takes more than half of a frame is not copied, and nothing is
// without room for the whole of what its frame holds.
func TestCopiesThatFreeNothing(t *testing.T) {
	const budget, batchBytes = 8 << 20, 128 << 10
	for name, c := range map[string]struct{ batches, room int }{"most of a frame": {13, 13}, "no room": {12, 11}} {
		t.Run(name, func(t *testing.T) {
			r := &Replicator{budget: memory.NewBudget(budget)}
			f := r.budget.Read(0, 3<<20)
			rest := r.budget.Frame(0, r.budget.Left()-int64(c.room*batchBytes))
			held, _ := r.budget.Usage()
			unpin(r.budget, pin(&mirror{r: r, mirrorKey: mirrorKey{topic: "orders"}}, f, c.batches, batchBytes))
			if _, peak := r.budget.Usage(); peak != held {
				t.Errorf("%d bytes were held, %d before", peak, held)
			}
			rest.Release()
		})
	}
}

// TestJoinsStayWithinTheBudget: without room for a joined batch the batches are appended one by
// one, and joined again when there is room.
func TestJoinsStayWithinTheBudget(t *testing.T) {
	r := &Replicator{budget: memory.NewBudget(1 << 20)}
	m := &mirror{r: r, mirrorKey: mirrorKey{topic: "orders"}}
	m.lost.Store(true) // there is no timeline
	w := newWorker(m, 0, nil)
	l := &lane{s: &stream{d: &destination{r: r}}}
	for n := range int64(3) {
		b := batch.Header(batchtest.HeaderOnly(n, 1, 0, 1000))
		if err := batch.Stamp(b, n, 0); err != nil {
			t.Fatal(err)
		}
		w.core.Queue = append(w.core.Queue, core.Item{Bytes: b, Base: n, Records: 1, Frame: r.budget.Frame(0, int64(len(b)))})
	}
	rest := r.budget.Frame(0, r.budget.Left()-3000)
	held, _ := r.budget.Usage()
	w.core.Flight = 3
	w.mu.Lock()
	j, ok := w.load(l, w.core.Queue, core.JoinRule{Most: 1 << 20})
	if !ok || j.joined != 0 || j.i.Records != 1 || w.core.Flight != 1 {
		t.Errorf("an append of %d records, joined from %d, with %d batches in flight", j.i.Records, j.joined, w.core.Flight)
	}
	if w.joining.from != 0 {
		t.Errorf("batches before %d are never joined again", w.joining.from)
	}
	w.mu.Unlock()
	if _, peak := r.budget.Usage(); peak != held {
		t.Errorf("%d bytes were held, %d before", peak, held)
	}
	rest.Release()
}

// TestJoinsTakeWhatIsFree: a joined batch is planned no larger than the room that is left.
func TestJoinsTakeWhatIsFree(t *testing.T) {
	r := &Replicator{budget: memory.NewBudget(1 << 20)}
	w := newWorker(&mirror{r: r, mirrorKey: mirrorKey{topic: "orders"}}, 0, nil)
	w.fetcher.Store(&fetcher{s: &source{cfg: linkconfig.Replication{JoinBelow: 1000}}})
	r.budget.Put(50_000 - r.budget.Total)
	if rule := w.joinRule(core.JoinRule{Most: 1 << 20}, 0); rule.Most != 40_000 || rule.Below != 1000 {
		t.Errorf("%+v", rule)
	}
	r.budget.Put(-60_000)
	if rule := w.joinRule(core.JoinRule{Most: 1 << 20}, 0); rule.Most != 0 {
		t.Errorf("%+v with nothing left", rule)
	}
}
