package timeline

import "testing"

// TestDisown: an instance that has lost the ownership sends no reader beyond the end that asks for
// records which another owner has appended since. It still knows what is in the log for sure.
func TestDisown(t *testing.T) {
	p := Open(0, 100, 100)
	p.Own(0, 100, 100, true)
	p.Extend(0, 100, 10)
	p.SetPhysicalEnd(10)
	p.Extend(10, 120, 10) // after a hole; not confirmed
	if at, _, ok := p.FindPhysical(131, 0); at != -1 || !ok {
		t.Fatalf("an owner knows where its log ends: %d %v", at, ok)
	}
	p.Disown()
	for _, c := range []struct {
		logical, physical int64
		ok                bool
	}{{99, -1, true}, {100, 0, true}, {109, 9, true}, {110, 10, true}, {111, 0, false}, {125, 0, false}, {131, 0, false}} {
		at, probe, ok := p.FindPhysical(c.logical, 0)
		if ok != c.ok || ok && at != c.physical || !ok && probe != ProbeEnd {
			t.Errorf("%d: %d %d %v", c.logical, at, probe, ok)
		}
	}
	if _, known := p.LogicalEnd(); known {
		t.Error("it has an end that somebody announces")
	}
	// The new owner's records, as a look at the end finds them.
	p.LearnProbe(10, 120, 10)
	p.LearnProbe(20, 130, 5)
	p.LearnEnd(25)
	if at, _, ok := p.FindPhysical(133, 0); at != 23 || !ok {
		t.Errorf("%d %v", at, ok)
	}
	// Back again.
	p.Own(25, 135, 140, false)
	if at, _, ok := p.FindPhysical(140, 0); at != 25 || !ok {
		t.Errorf("%d %v", at, ok)
	}
	// An end behind a hole stays known: a client may have committed it.
	p.Disown()
	if at, _, ok := p.FindPhysical(140, 0); at != 25 || !ok {
		t.Errorf("%d %v", at, ok)
	}
	if at, _, ok := p.FindPhysical(133, 0); at != 23 || !ok {
		t.Errorf("%d %v", at, ok)
	}
}

// TestLateResultsAnnounceNothing: an append that was on its way when the owner gave the partition
// up gets its answer later. That answer must announce nothing, because nobody here withdraws the
// announcement when another instance appends.
func TestLateResultsAnnounceNothing(t *testing.T) {
	for name, late := range map[string]func(p *Partition){
		"sent":     func(p *Partition) { p.Extend(10, 110, 5) },
		"answered": func(p *Partition) { p.Appended(10, 110, 5) },
	} {
		p := Open(0, 100, 100)
		p.Own(0, 100, 100, true)
		p.Extend(0, 100, 10)
		p.Appended(0, 100, 10)
		p.Disown()
		late(p)
		if at, probe, ok := p.FindPhysical(120, 0); ok || probe != ProbeEnd {
			t.Errorf("%s: offset 120, which another owner may have appended, is known to be at %d", name, at)
		}
		if _, known := p.LogicalEnd(); known {
			t.Errorf("%s: it has an end that somebody announces", name)
		}
	}
}

// TestAnnouncedIsNoEnd: if the log ends behind records that were only announced, the timeline
// returns the end from before them, because another writer's batch may stand in their place.
func TestAnnouncedIsNoEnd(t *testing.T) {
	p := Open(0, 100, 100)
	p.Own(0, 100, 100, true)
	p.Extend(0, 100, 10)
	p.Appended(0, 100, 10)
	p.Extend(10, 110, 5)
	if l, _, ok := p.FindLogical(15); l != 110 || !ok {
		t.Errorf("the log is said to end at %d, %v", l, ok)
	}
	if l, _, ok := p.FindRecord(12); ok {
		t.Errorf("the record at 12, which nobody has seen, is said to be %d", l)
	}
	if at, _, ok := p.FindPhysical(112, 0); at != 12 || !ok { // it may be there
		t.Errorf("112 is at %d, %v", at, ok)
	}
	p.LearnProbe(10, 110, 5)
	for physical, want := range map[int64]int64{10: 110, 12: 112, 15: 115} {
		if l, _, ok := p.FindLogical(physical); l != want || !ok {
			t.Errorf("%d is %d, %v, want %d", physical, l, ok, want)
		}
	}
	if l, _, ok := p.FindRecord(12); l != 112 || !ok {
		t.Errorf("the record at 12 is %d, %v", l, ok)
	}
}

// TestHoleAtTheEndIsLearned: the owner elsewhere has stored that the log ends behind a hole. An
// instance learns that even if it has looked at the end before.
func TestHoleAtTheEndIsLearned(t *testing.T) {
	p := Open(0, 0, 0)
	p.LearnProbe(0, 0, 1)
	p.LearnEnd(1)
	if l, _, ok := p.FindLogical(1); l != 1 || !ok {
		t.Fatalf("%d %v", l, ok)
	}
	p.LearnProbe(1, 2, 0) // a checkpoint
	if l, _, ok := p.FindLogical(1); l != 2 || !ok {
		t.Errorf("%d %v", l, ok)
	}
	if at, _, ok := p.FindPhysical(2, 0); at != 1 || !ok {
		t.Errorf("%d %v", at, ok)
	}
	p.LearnProbe(1, 2, 1)
	p.LearnEnd(2)
	p.LearnProbe(2, 4, 0)
	p.LearnProbe(1, 2, 0) // once more
	for logical, physical := range []int64{0, 1, 1, 2, 2} {
		if at, _, ok := p.FindPhysical(int64(logical), 0); at != physical || !ok {
			t.Errorf("%d: %d %v", logical, at, ok)
		}
	}
	if l, _, ok := p.FindLogical(2); l != 4 || !ok {
		t.Errorf("%d %v", l, ok)
	}
}

// TestOneRecordAtTheFormerEnd: the timeline learns a record that stands where the log ended at an
// earlier probe.
func TestOneRecordAtTheFormerEnd(t *testing.T) {
	p := Open(0, 0, 0)
	for n := range int64(5) {
		p.LearnProbe(n, n, 1)
		p.LearnEnd(n + 1)
		if at, _, ok := p.FindPhysical(n+1, 0); at != n+1 || !ok {
			t.Fatalf("%d: %d %v", n+1, at, ok)
		}
	}
}

// TestDisownEnded: a mirror that has ended has no owner.
func TestDisownEnded(t *testing.T) {
	p := Open(0, 0, 0)
	p.Own(10, 12, 12, false)
	p.End(10, 12, false)
	p.Disown()
	if at, _, ok := p.FindPhysical(20, 0); at != 18 || !ok || !p.Behind(10) {
		t.Errorf("%d %v", at, ok)
	}
}

// TestDisownEmpty: the timeline invents nothing about a log without records.
func TestDisownEmpty(t *testing.T) {
	p := Open(5, 100, 100)
	p.Disown()
	p.Own(5, 100, 100, true)
	p.Disown()
	if at, _, ok := p.FindPhysical(100, 0); at != 5 || !ok {
		t.Errorf("%d %v", at, ok)
	}
	if _, _, ok := p.FindPhysical(101, 0); ok {
		t.Error("known to be beyond the end")
	}
	q := New(0, 7, 7) // everything that follows has the same shift until an owner says otherwise
	q.Disown()
	if _, _, ok := q.FindPhysical(30, 0); ok {
		t.Error("known without anybody to say so")
	}
}
