package router

import (
	"testing"
	"time"
)

// Unknown topic ids are looked up at once up to a bound, and then one after the other.
func TestUnknownIDsOfOneConnectionArePaced(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	for range 10 {
		if wait := p.spend(now, unknownIDsBurst/10); wait > 0 {
			t.Fatalf("the first %d ids wait %v", unknownIDsBurst, wait)
		}
	}
	for i := range 100 {
		if wait, want := p.spend(now, 1), time.Duration(i+1)*unknownIDEvery; wait != want {
			t.Fatalf("id %d waits %v, want %v", i, wait, want)
		}
	}
	now = now.Add(time.Hour)
	if wait := p.spend(now, unknownIDsBurst); wait > 0 {
		t.Errorf("an hour later %d ids wait %v", unknownIDsBurst, wait)
	}
	if wait := p.spend(now, 50); wait != 50*unknownIDEvery {
		t.Errorf("50 more wait %v", wait)
	}
}
