package replicator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/protocol/batch"
	"klink/replicator/memory"
)

// stalledLog is the log of a partition whose destination answers appends only once released is
// closed.
type stalledLog struct {
	scriptedLog
	released chan struct{}
	held     *atomic.Int64 // fillers that wait for their answer, over all logs
	most     *atomic.Int64
}

func (l *stalledLog) append(ctx context.Context, b []byte) (int64, error) {
	for n := l.held.Add(1); ; {
		most := l.most.Load()
		if n <= most || l.most.CompareAndSwap(most, n) {
			break
		}
	}
	defer l.held.Add(-1)
	select {
	case <-l.released:
		return l.put(b), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// TestBurnsAreBounded: 100 new mirrors before a destination that does not answer hold maxFillers
// fillers, within the budget of the replicator. When it answers again, all of them are aligned.
func TestBurnsAreBounded(t *testing.T) {
	const mirrors, to = 100, 1000
	r, err := New(Config{Control: newFakeControl(), MemoryBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r.burnPace = newPace(1e12)
	var held, most atomic.Int64
	released := make(chan struct{})
	logs := make([]*stalledLog, mirrors)
	errs := make([]error, mirrors)
	var burns sync.WaitGroup
	for i := range logs {
		l := &stalledLog{released: released, held: &held, most: &most}
		l.next, l.ctx = func(...fate) fate { return done }, t.Context()
		logs[i] = l
		burns.Go(func() {
			b := r.newBurn(&mirrorLog{topic: "t", partition: int32(i)}, to, to)
			b.log = l
			errs[i] = b.run(t.Context(), false)
		})
	}
	kafkatest.WaitFor(t, 30*time.Second, "fillers that wait for the destination", func() (bool, string) { return held.Load() == memory.MaxFillers, "" })
	if n := r.budget.Total - r.budget.Left(); n != memory.MaxFillers*to*memory.FillerBytes {
		t.Errorf("%d bytes of the budget are taken by %d fillers of %d records", n, memory.MaxFillers, to)
	}
	close(released)
	burns.Wait()
	for i, err := range errs {
		if err != nil || logs[i].start != to {
			t.Fatalf("burn %d ends with the log start at %d: %v", i, logs[i].start, err)
		}
	}
	if most.Load() != memory.MaxFillers {
		t.Errorf("%d fillers were held at once, want at most %d", most.Load(), memory.MaxFillers)
	}
	if r.budget.Left() != r.budget.Total || len(r.fillers.Slots) != 0 {
		t.Errorf("%d of %d bytes are free, and %d slots are taken, after all burns", r.budget.Left(), r.budget.Total, len(r.fillers.Slots))
	}
}

// TestFillerRoomIsGivenBack: a caller that gives up while the budget is used up leaves nothing
// behind.
func TestFillerRoomIsGivenBack(t *testing.T) {
	b := memory.NewBudget(1 << 20)
	room := memory.NewFillerRoom(b)
	give, err := room.Take(t.Context(), batch.MaxFiller) // more than can be reserved: takes all of it
	if err != nil || b.Left() != b.Total-b.Reservable() {
		t.Fatalf("%d bytes are free: %v", b.Left(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for range 2 * memory.MaxFillers {
		if _, err := room.Take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a filler beyond the budget: %v", err)
		}
	}
	give()
	if b.Left() != b.Total || len(room.Slots) != 0 {
		t.Errorf("%d of %d bytes are free, and %d slots are taken", b.Left(), b.Total, len(room.Slots))
	}
}
