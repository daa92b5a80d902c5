package core

import (
	"testing"
	"time"
)

// TestReach: over a distance of 100 ms the size of fetches grows until the transfer takes eight
// times as long as the wait. Without distance it stays as it is, or shrinks back to that.
func TestReach(t *testing.T) {
	transfer := func(r Reach, perSecond int64) time.Duration {
		return time.Duration(r.Times(1<<20, 64<<20)) * time.Second / time.Duration(perSecond)
	}
	r := Reach(1)
	for range 20 {
		r.Learn(true, 100*time.Millisecond, transfer(r, 30<<20))
	}
	if r != 32 {
		t.Errorf("30 MiB/s at 100 ms: reach %d", r)
	}
	r = 1
	for range 20 {
		r.Learn(true, 10*time.Millisecond, transfer(r, 50<<20))
	}
	if r != 4 {
		t.Errorf("50 MiB/s at 10 ms: reach %d", r)
	}
	for range 20 {
		r.Learn(false, 500*time.Millisecond, 0) // nothing new
	}
	if r != 4 {
		t.Errorf("while there is nothing new: reach %d", r)
	}
	for range 20 {
		r.Learn(true, time.Millisecond, time.Millisecond)
	}
	if r != 1 {
		t.Errorf("on the same machine: reach %d", r)
	}
	if got := Reach(32).Times(4<<20, 64<<20); got != 64<<20 {
		t.Errorf("bounded: %d", got)
	}
}
