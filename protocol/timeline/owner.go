package timeline

import "math"

// Own makes the caller the owner. The log ends at physical, and the record before it, if there is
// one, ends at logical. Between logical and until there is a hole (SetLogicalEnd). The owner
// announces everything that follows with Extend. Announcements of an earlier owner that were not
// published (SetPhysicalEnd), or that contradict this end, did not come about. The caller should
// also teach the stamp of the last batch that counts (LearnProbe).
//
// straight: from the start of the timeline on, every physical offset holds exactly the next logical
// one. There is no hole, and nothing is void. The two ends alone cannot tell that, because holes
// and void offsets may cancel out.
func (t *Partition) Own(physical, logical, until int64, straight bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	t.begin(&s, span{physical: physical, logical: logical}, logical, t.publishEnd(physical), straight)
	s.tip.until.Store(until) // before the Store: a reader at until must never be out of range
	t.state.Store(&s)
}

// publishEnd is SetPhysicalEnd, and returns the end that was published before, or 0 if there was
// none.
func (t *Partition) publishEnd(physical int64) (before int64) {
	if before = t.physEnd.Swap(physical); before == math.MaxInt64 {
		return 0
	}
	return before
}

// Disown ends the ownership: another instance may append from now on, so the timeline has to learn
// what follows the records that are in the log for sure. Announced records that were not confirmed
// (SetPhysicalEnd) may not have come about. A mirror that has ended has no owner, and stays as it
// is.
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
	if n := physEnd - tip.physical; physEnd != math.MaxInt64 && n >= 0 {
		all := end != endless && n >= end-tip.logical
		if n = min(n, end-tip.logical); n > 0 {
			s.spans = s.spans.push(span{physical: tip.physical, logical: tip.logical, n: n})
		}
		if all && (until > end || n == 0) {
			// Every later record stands behind the hole.
			s.spans = s.spans.push(span{physical: physEnd, logical: max(end, until)})
		}
		t.bound(&s)
	}
	t.state.Store(&s)
}

// Extend announces records that are about to be appended. The owner calls it before it sends the
// batch, because a reader may see the batch before the owner knows that it is in the log. The
// records will stand at physical, the end of the log as the owner knows it, and have the logical
// offsets from logical on. Earlier announcements for physical or beyond did not come about. If the
// timeline has no owner, Extend does nothing.
func (t *Partition) Extend(physical, logical, records int64) {
	t.mu.Lock() // even if only the end moves: a reader may find a void batch and replace the tip
	defer t.mu.Unlock()
	now := t.state.Load()
	if now.tip == nil {
		return // Disown came while the append was on its way
	}
	if tip := now.tip; tip.end.Load() == logical && tip.at(logical) == physical {
		tip.end.Store(logical + records)
		return
	}
	s := *now
	t.begin(&s, span{physical: physical, logical: logical}, logical+records, physical, false)
	t.state.Store(&s)
}

// Appended confirms that records stand where Extend has announced them, and that the log ends
// behind them. In between a reader may have withdrawn the announcement (LearnVoid).
func (t *Partition) Appended(physical, logical, records int64) {
	p := t.state.Load().tip
	if p == nil {
		return // as for Extend
	}
	if p.at(logical) != physical || p.end.Load() < logical+records {
		t.Extend(physical, logical, records)
	}
	t.SetPhysicalEnd(physical + records)
}

// End records that the mirroring has ended: from the physical offset physical on, which is the
// logical offset logical, the shift is constant for good. In a log without a record that place may
// be anywhere at or above the floor. straight is as for Own.
func (t *Partition) End(physical, logical int64, straight bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped.Store(physical + 1)
	s := *t.state.Load()
	t.begin(&s, span{physical: physical, logical: logical}, endless, t.publishEnd(physical), straight)
	t.state.Store(&s)
}

// Restart turns the timeline into that of a log which has never held a record: see New.
func (t *Partition) Restart(physical, logical, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restart(physical, logical, floor)
}

// restart is Restart. The caller holds the lock.
func (t *Partition) restart(physical, logical, floor int64) {
	t.shown.store(span{})
	t.glimpsed.store(span{})
	s := &state{start: span{physical: physical, logical: logical}, floor: floor}
	s.tip = newTip(physical, logical, endless)
	if t.state.Load().start.shift() == s.start.shift() {
		t.recent.Store(nil)
		t.state.Store(s)
		return
	}
	t.change(func() {
		t.recent.Store(nil)
		t.state.Store(s)
	})
}

// Set changes shift and floor. Only the shift of a log that has never held a record may change; see
// invariant 6 for the floor. If the shift changes, the caller calls SetPhysicalEnd first, so that
// no reader is sent beyond the end of the log. A mirror that is stopped while its log is empty
// needs Set(floor - physical end, floor), or its first own record would stand below the floor.
func (t *Partition) Set(shift, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if s.tip == nil || s.start.shift() != shift {
		t.restart(s.start.physical, s.start.physical+shift, floor)
		return
	}
	s.floor = floor
	t.state.Store(&s)
}

// Move moves the start of the timeline to the stored one: the physical offset physical is the
// logical offset logical, or belongs to the first record above it. No logical offset below floor is
// shown. A log that has never held a record begins there; in any other log the timeline forgets
// what is below.
func (t *Partition) Move(physical, logical, floor int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	start := span{physical: physical, logical: logical}
	switch {
	case s.start == start: // only the floor changes
	case s.oneRun() && s.tip.end.Load() == endless:
		if start.shift() != s.start.shift() {
			t.restart(physical, logical, floor)
			return
		}
	case follows(s.start, start) && s.moveStart(start):
	default: // what was known contradicts the new start
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

// moveStart makes start the lowest place that is known. It returns false if start contradicts the
// tip.
func (s *state) moveStart(start span) bool {
	if s.tip != nil {
		switch tip := s.tip.begin(); {
		case start.physical <= tip.physical:
			if !follows(start, tip) {
				return false
			}
		case start.shift() != tip.shift():
			return false
		default:
			s.tip = s.tip.fork(max(s.tip.end.Load(), start.logical))
			s.tip.physical, s.tip.logical = start.physical, start.logical
		}
	}
	s.spans = s.spans.filter(func(x *span) (ok bool) {
		*x, ok = x.behind(start)
		return ok
	})
	s.start = start
	return true
}

// SetPhysicalEnd publishes the physical end of the log as the owner knows it. It may be lower than
// the log's own end, never higher.
func (t *Partition) SetPhysicalEnd(p int64) { t.physEnd.Store(p) }

// SetLogicalEnd publishes the logical end of a mirror that has all of the source's records and
// whose source ends in a hole: there is no record between the last announced one and logical.
func (t *Partition) SetLogicalEnd(logical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tip := t.state.Load().tip; tip != nil && tip.until.Load() < logical {
		tip.until.Store(logical)
	}
}

// LogicalEnd returns the logical offset after the last announced record, or after the hole behind
// it. known is false if there is no owner.
func (t *Partition) LogicalEnd() (logical int64, known bool) {
	tip := t.state.Load().tip
	if tip == nil || tip.end.Load() == endless {
		return 0, false
	}
	return max(tip.end.Load(), tip.until.Load()), true
}

// begin makes the run that starts at `at` the tip of s; its records up to the logical offset end
// were announced. It keeps earlier announcements below the physical offset sure. The caller holds
// the lock.
func (t *Partition) begin(s *state, at span, end, sure int64, straight bool) {
	if straight && at.shift() == s.start.shift() {
		s.spans = nil
		t.recent.Store(nil)
		s.tip = newTip(s.start.physical, s.start.logical, end)
		return
	}
	forget := s.tip == nil // there was no owner: keep what is known below `at`
	if tip := s.tip; tip != nil {
		n := min(tip.end.Load()-tip.logical, min(sure, at.physical)-tip.physical, at.logical-tip.logical)
		if n >= 0 && tip.at(tip.logical+n) == at.physical && tip.logical+n == at.logical { // the run goes on
			s.tip = tip.fork(end)
			return
		}
		if forget = at.physical < tip.physical; n > 0 {
			s.spans = s.spans.push(span{physical: tip.physical, logical: tip.logical, n: n})
			t.bound(s)
		}
	}
	if last, ok := s.spans.last(); forget || ok && !follows(last, at) {
		t.retract(s, at)
	}
	s.tip = newTip(at.physical, at.logical, end)
}

// retract forgets everything that cannot stand before a place.
func (t *Partition) retract(s *state, at span) {
	s.spans = s.spans.filter(func(x *span) bool {
		had := x.n
		x.n = min(x.n, at.physical-x.physical, at.logical-x.logical)
		return x.n > 0 || x.n == had
	})
	t.recent.Load().filter(func(x span) bool { return follows(x, at) })
}
