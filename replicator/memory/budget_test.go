package memory

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestBudgetIsServedInOrderAndNeverExceeded(t *testing.T) {
	b := NewBudget(100)
	if err := b.Reserve(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 3)
	waiting := func(n int) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.waiters) == n
	}
	await := func(n int) {
		t.Helper()
		for !waiting(n) {
			if t.Context().Err() != nil {
				t.Fatal("nobody waits")
			}
		}
	}
	go func() { _ = b.Reserve(t.Context(), 50); order <- 1 }()
	await(1)
	// There is room for this one, but the one ahead of it goes first.
	go func() { _ = b.Reserve(t.Context(), 10); order <- 2 }()
	await(2)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- b.Reserve(ctx, 1) }()
	await(3)
	cancel()
	if err := <-gone; err == nil {
		t.Error("a cancelled reservation was served")
	}
	f := b.Frame(60, 130) // more came than was reserved
	if held, _ := b.Usage(); held != 130 || b.free != -30 || !b.Scarce() {
		t.Errorf("held %d, free %d", held, b.free)
	}
	f.Keep()
	f.Release()
	f.Release()
	got := []int{<-order, <-order}
	if slices.Sort(got); !slices.Equal(got, []int{1, 2}) || b.free != 40 {
		t.Errorf("served %v, free %d", got, b.free)
	}
}

// TestBudgetInvariant: whatever is reserved, read within what was reserved, copied and released,
// reservations and frames are together within the budget. Reservations alone leave room for copies.
func TestBudgetInvariant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBudget(rapid.Int64Range(1<<20, 1<<24).Draw(t, "total"))
		var reserved []int64
		var frames []*Frame
		sum := int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				n := FloorClass(rapid.Int64Range(minClass, b.Reservable()).Draw(t, "reserve"))
				before := b.free
				ctx, cancel := context.WithCancel(context.Background())
				cancel() // granted at once, or never
				if b.Reserve(ctx, n) != nil {
					if before-n >= b.Total-b.Reservable() {
						t.Fatalf("%d bytes were refused with %d free", n, before)
					}
					continue
				}
				if b.free < b.Total-b.Reservable() {
					t.Fatalf("a reservation leaves %d bytes for copies", b.free)
				}
				reserved, sum = append(reserved, n), sum+n
			case 1:
				if len(reserved) > 0 {
					n := reserved[0]
					frames = append(frames, b.Read(n, rapid.Int64Range(1, n).Draw(t, "read")))
					reserved, sum = reserved[1:], sum-n
				}
			case 2, 3:
				n := rapid.Int64Range(1, b.Total).Draw(t, "copy")
				try := b.TryFrame
				if rapid.Bool().Draw(t, "pool") {
					try = b.TryRead
				}
				if f := try(n); f != nil {
					frames = append(frames, f)
				} else if size, _ := classOf(n); size <= b.free {
					t.Fatalf("a copy of %d bytes was refused with %d free", n, b.free)
				}
			case 4:
				if len(frames) > 0 {
					frames[0].Release()
					frames = frames[1:]
				}
			}
			if held, peak := b.Usage(); held+sum > b.Total || peak > b.Total || b.free != b.Total-held-sum {
				t.Fatalf("%d bytes are held, %d at most, %d reserved, and %d of %d free", held, peak, sum, b.free, b.Total)
			}
		}
	})
}
