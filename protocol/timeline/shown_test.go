package timeline

import "testing"

// TestShownIsNotOutOfRange: an append that its owner believed lost reaches the log after the owner
// has read the log's end. A reader is shown it, and asks for the next offset before the owner
// knows. Once the timeline returned -1, so that consumers started anew.
func TestShownIsNotOutOfRange(t *testing.T) {
	p := Open(0, 0, 0)
	p.Own(100, 100, 100, true)
	p.Extend(100, 100, 4)      // [100, 104), whose connection is cut
	p.Own(100, 100, 100, true) // it is not in the log, the owner reads
	if got := p.ToPhysical(104); got != -1 {
		t.Fatalf("nobody was shown what is before 104, and it is at %d", got)
	}
	p.Learn(100, 100, 4) // it came after all, and was shown
	for _, tc := range []struct{ logical, physical int64 }{
		{100, 100}, {102, 100}, {104, 104}, {105, -1},
	} {
		if got := p.ToPhysical(tc.logical); got != tc.physical {
			t.Errorf("offset %d is at %d, want %d", tc.logical, got, tc.physical)
		}
	}
	for physical, want := range map[int64]int64{100: 100, 104: 104, 108: 104} {
		if got := p.ToLogical(physical); got != want { // 108: with a second copy, that of the owner
			t.Errorf("physical offset %d is %d, want %d", physical, got, want)
		}
	}
	// The owner appends it again, which is void there, and finds out.
	p.Extend(100, 100, 4)
	p.Own(108, 104, 104, false)
	if got := p.ToPhysical(104); got != 108 {
		t.Errorf("the end is at %d, want 108", got)
	}
	// A log that turns out never to have held a record has shown none.
	p.Restart(0, 50, 50)
	p.Own(0, 50, 50, true)
	if got := p.ToPhysical(104); got != -1 {
		t.Errorf("104 is at %d after a new begin at 50", got)
	}
}

// TestShownBehindAHole: offsets between the known end and the record that was shown are not out of
// range either. A reader that asks for one is sent to the known end, never too high.
func TestShownBehindAHole(t *testing.T) {
	p := Open(0, 0, 0)
	p.Own(100, 120, 120, false)
	p.Learn(100, 130, 4)
	for _, tc := range []struct{ logical, physical int64 }{
		{120, 100}, {125, 100}, {130, 100}, {133, 100}, {134, 104}, {135, -1},
	} {
		if got := p.ToPhysical(tc.logical); got != tc.physical {
			t.Errorf("offset %d is at %d, want %d", tc.logical, got, tc.physical)
		}
	}
	if got := p.ToLogical(104); got < 124 || got > 134 {
		t.Errorf("the end is told as %d; the log ends at 134, and 4 records are behind 120", got)
	}
}
