package timeline

import "math"

// Own says that the log ends at physical, that the record before it, if there is one, ends at logical, that there is a hole
// from there to until (SetLogicalEnd), and that all which follows will be announced by Extend. What was announced before and
// lies beyond did not come about. The stamp of the last batch should be taught too (LearnProbe).
func (t *Partition) Own(physical, logical, until int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.physEnd.Store(physical)
	s := *t.state.Load()
	t.begin(&s, physical, logical, logical)
	s.tip.until.Store(until) // together: a reader who stands at until must not be out of range for a moment
	t.state.Store(&s)
}

// Disown takes Own back: somebody else may append from now on, so what follows the records that are in the log for sure has
// to be learned. What was announced and not confirmed (SetPhysicalEnd) may not have come about. A mirror that has ended has
// no owner, and stays as it is.
func (t *Partition) Disown() {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if s.tip == nil || t.stopped.Load() > 0 {
		return
	}
	tip, physEnd := s.tip, t.physEnd.Load()
	end, until := tip.end.Load(), tip.until.Load()
	s.tip = nil
	if n := s.hidden.visible(physEnd) - s.hidden.visible(tip.physical); physEnd != math.MaxInt64 && n >= 0 {
		all := end != endless && n >= end-tip.logical
		if all {
			n = end - tip.logical
		}
		if n > 0 {
			s.spans = s.spans.push(span{physical: tip.physical, logical: tip.logical, n: n})
		}
		if all && (until > end || n == 0) {
			// Whatever comes stands behind the hole.
			s.spans = s.spans.push(span{physical: physEnd, logical: max(end, until)})
		}
		t.bound(&s)
	}
	t.state.Store(&s)
}

// Extend announces records about to be appended: before the batch is sent, as a reader may see it before its owner knows that
// it is in the log. They will stand at physical, the end of the log as the owner knows it, and have the logical offsets from
// logical on. What was announced before for physical or beyond did not come about.
func (t *Partition) Extend(physical, logical, records int64) {
	t.mu.Lock() // also where only the end moves: a reader may hide something, and make another tip
	defer t.mu.Unlock()
	now := t.state.Load()
	if tip := now.tip; tip != nil && tip.end.Load() == logical &&
		now.hidden.visible(physical)-now.hidden.visible(tip.physical) == logical-tip.logical {
		tip.end.Store(logical + records)
		return
	}
	s := *now
	t.begin(&s, physical, logical, logical+records)
	t.state.Store(&s)
}

// End says that the mirroring has ended: from physical, which is logical, the shift is constant for good. In a log without
// a record that may be anywhere at or above the floor.
func (t *Partition) End(physical, logical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.physEnd.Store(physical)
	t.stopped.Store(physical + 1)
	s := *t.state.Load()
	// What a reader has met beyond may have been written after the end.
	var h hidden
	for _, r := range s.hidden {
		if r.from < physical {
			h = h.with(r.from, min(r.to, physical))
		}
	}
	s.hidden = h
	t.begin(&s, physical, logical, endless)
	t.state.Store(&s)
}

// Restart makes the timeline that of a log which has never held a record: see New.
func (t *Partition) Restart(physical, logical, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restart(physical, logical, floor)
}

// restart is Restart; the lock is held.
func (t *Partition) restart(physical, logical, floor int64) {
	t.shown.store(span{})
	s := &state{start: span{physical: physical, logical: logical}, floor: floor, hidden: t.state.Load().hidden}
	s.tip = newTip(physical, logical, endless)
	if same := t.state.Load().start; same.logical-same.physical == logical-physical {
		t.recent.Store(nil)
		t.state.Store(s)
		return
	}
	t.change(func() {
		t.recent.Store(nil)
		t.state.Store(s)
	})
}

// Set changes shift and floor: the shift only of a log that has never held a record; see invariant 6 for the floor. Where the
// shift changes, SetPhysicalEnd comes first, so that no reader is sent beyond the end of the log. A mirror that is stopped
// while its log is empty needs Set(floor - physical end, floor), or its first own record would stand below the floor.
func (t *Partition) Set(shift, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if s.tip == nil || s.start.logical-s.start.physical != shift {
		t.restart(s.start.physical, s.start.physical+shift, floor)
		return
	}
	s.floor = floor
	t.state.Store(&s)
}

// Move follows the stored start of the timeline: physical offset physical is logical offset logical, or belongs to the first
// record above it, and no logical offset below floor is shown. A log that has never held a record begins there; in another,
// what is below is forgotten.
func (t *Partition) Move(physical, logical, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	start := span{physical: physical, logical: logical}
	switch {
	case s.start == start: // only the floor
	case s.oneRun() && s.tip.end.Load() == endless:
		if logical-physical != s.start.logical-s.start.physical || len(s.hidden) > 0 {
			t.restart(physical, logical, floor)
			return
		}
	case s.follows(s.start, start) && t.moveStart(&s, start):
	default: // one of the two was not true
		announced := s.tip != nil && s.tip.end.Load() != endless
		t.restart(physical, logical, floor)
		s = *t.state.Load()
		if announced {
			s.tip = newTip(physical, logical, logical)
		} else {
			s.tip = nil
		}
	}
	s.floor = floor
	t.state.Store(&s)
}

// moveStart makes start the lowest place that is known. It is false if start contradicts the tip.
func (t *Partition) moveStart(s *state, start span) bool {
	if s.tip != nil {
		tip := span{physical: s.tip.physical, logical: s.tip.logical}
		switch into := s.hidden.visible(start.physical) - s.hidden.visible(tip.physical); {
		case into <= 0 && !s.follows(start, tip):
			return false
		case into > 0 && start.logical-tip.logical != into:
			return false
		case into > 0:
			s.tip = s.tip.fork()
			s.tip.physical, s.tip.logical = start.physical, start.logical
			s.tip.end.Store(max(s.tip.end.Load(), start.logical))
		}
	}
	s.spans = s.spans.filter(func(x *span) bool { return s.follows(start, *x) })
	s.start = start
	return true
}

// SetPhysicalEnd publishes the physical log end that the owner knows of. It may lag behind the log, never lead it.
func (t *Partition) SetPhysicalEnd(p int64) { t.physEnd.Store(p) }

// SetLogicalEnd publishes the logical end of a mirror that has all of the source's records, where the source ends in a
// hole: there is no record between the last one announced and logical.
func (t *Partition) SetLogicalEnd(logical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tip := t.state.Load().tip; tip != nil && tip.until.Load() < logical {
		tip.until.Store(logical)
	}
}

// LogicalEnd is the logical offset after the last record that was announced, or after the hole behind it; known is false where
// nobody announces.
func (t *Partition) LogicalEnd() (logical int64, known bool) {
	tip := t.state.Load().tip
	if tip == nil || tip.end.Load() == endless {
		return 0, false
	}
	return max(tip.end.Load(), tip.until.Load()), true
}

// Hide hides the physical offsets from from to to, to not included: batches that somebody else wrote, or a doubled append.
// What was announced for from is taken to stand behind to, as brokers append whole batches. Readers who meet such a batch
// hide it too. The error is ErrTooManyHidden; nothing was hidden then.
func (t *Partition) Hide(from, to int64) error {
	if from < 0 || to <= from {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	h := s.hidden.with(from, to)
	if len(h) > maxHidden {
		return ErrTooManyHidden
	}
	if h.total() == s.hidden.total() {
		return nil // they were
	}
	// Whoever still has the old state must not get later ends with it. What was announced for from is expected behind to.
	if s.tip != nil {
		s.tip = s.tip.fork()
	}
	// Spans keep their physical offsets. One that was taught inside is not true; one that would reach across was written as
	// one run, whose records beyond from are elsewhere now.
	old := s.hidden
	keep := func(x *span) bool {
		if x.physical >= from {
			return x.physical >= to
		}
		x.n = min(x.n, old.visible(from)-old.visible(x.physical))
		return true
	}
	s.spans = s.spans.filter(keep)
	s.hidden = h
	t.recent.Load().filter(func(x span) bool { was := x; return keep(&x) && x == was })
	t.state.Store(&s)
	return nil
}

// begin makes the run at physical, where records from logical to end were announced, the tip of s. The lock is held.
func (t *Partition) begin(s *state, physical, logical, end int64) {
	at := s.hidden.visible(physical)
	if s.tip == nil {
		// Nobody has announced: what is known remains, as far as it is below.
		t.retract(s, at)
		s.tip = newTip(physical, logical, end)
		t.join(s, at)
		return
	}
	tip, v := s.tip, s.hidden.visible(s.tip.physical)
	switch {
	case at >= v && logical-tip.logical == at-v: // the run goes on
		s.tip = tip.fork()
		s.tip.end.Store(end)
		return
	case at > v: // up to here it went
		s.spans = s.spans.push(span{physical: tip.physical, logical: tip.logical, n: at - v})
		t.bound(s)
	case at < v:
		t.retract(s, at)
	}
	s.tip = newTip(physical, logical, end)
	t.join(s, at)
}

// retract forgets all spans, or parts of such, from the visible offset at on.
func (t *Partition) retract(s *state, at int64) {
	s.spans = s.spans.filter(func(x *span) bool {
		v := s.hidden.visible(x.physical)
		x.n = min(x.n, at-v)
		return v < at
	})
	t.recent.Load().filter(func(x span) bool { return s.hidden.visible(x.physical)+x.n <= at })
}

// join makes the tip begin where its run is known to begin.
func (t *Partition) join(s *state, at int64) {
	first := s.start
	if x, ok := s.spans.last(); ok {
		first = x
	}
	if s.tip.logical-first.logical == at-s.hidden.visible(first.physical) && at > s.hidden.visible(first.physical) {
		joined := newTip(first.physical, first.logical, s.tip.end.Load())
		joined.until.Store(s.tip.until.Load())
		s.tip = joined
		s.spans = s.spans.filter(func(x *span) bool { return x.physical != first.physical })
	}
}
