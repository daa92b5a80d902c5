package memory

import (
	"context"
	"slices"
	"testing"
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
