package timeline

import "math"

// Learn tells what the stamp of a batch says that was seen in a response: records of them, the first one at physical, have
// the logical offsets from logical on. The batch must be one that is shown. It costs little when nothing new is said.
func (t *Partition) Learn(physical, logical, records int64) {
	t.show(physical+records, logical+records)
	t.learn(physical, logical, records, false)
}

// show notes where a batch ends that a reader is shown.
func (t *Partition) show(physical, logical int64) {
	if logical <= t.shown.logical.Load() {
		return // several readers follow the end; one notes it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if logical > t.shown.logical.Load() {
		t.shown.store(span{physical: physical, logical: logical, n: 1})
	}
}

// LearnProbe is Learn for a batch that was read on purpose; it is kept for longer than what passes. records = 0: all records
// from physical on are at or above logical, all before it below; a checkpoint says so.
func (t *Partition) LearnProbe(physical, logical, records int64) {
	t.learn(physical, logical, records, true)
}

func (t *Partition) learn(physical, logical, records int64, keep bool) {
	if t.state.Load().oneRun() || physical < 0 || logical < 0 || records < 0 || records > math.MaxInt32 || records == 0 && !keep {
		return
	}
	x := span{physical: physical, logical: logical, n: records}
	if !t.news(t.state.Load(), x) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if !t.news(&s, x) || !t.settle(&s, x) {
		return
	}
	switch {
	case keep:
		s.spans = s.spans.insert(x)
		t.bound(&s)
		t.state.Store(&s)
	default:
		t.state.Store(&s)
		r := t.recent.Load()
		if r == nil {
			r = &ring{}
			t.recent.Store(r)
		}
		r.put(x)
	}
}

// news is true if x lies where something is not known.
func (t *Partition) news(s *state, x span) bool {
	if s.tip != nil && s.hidden.visible(x.physical)+x.n > s.hidden.visible(s.tip.physical) || x.physical < s.start.physical ||
		s.hidden.has(x.physical) {
		return false
	}
	logical, _, known, _ := t.locate(s, x.physical)
	if x.n == 0 && x.logical > logical {
		return true // at the end of the log, which lies behind a hole that no batch tells of
	}
	if known && x.n > 0 && s.tip == nil {
		// Where the log ended once, a record may stand by now: what is known of that place is not known of the record.
		a, _, _ := t.around(s, x.physical, byPhysical)
		at := s.hidden.visible(x.physical)
		known = at < s.hidden.visible(a.physical)+a.n || at < s.hidden.visible(t.physEnd.Load())
	}
	if known && x.n > 1 {
		_, _, known, _ = t.locate(s, s.hidden.physical(s.hidden.visible(x.physical)+x.n-1))
	}
	return !known
}

// settle makes room for x where it contradicts what was learned before: of two places of one logical offset the lower is
// right, the other is a doubled append. It is false if x is in the wrong. The lock is held.
func (t *Partition) settle(s *state, x span) bool {
	if !s.follows(s.start, x) || s.tip != nil && !s.follows(x, span{physical: s.tip.physical, logical: s.tip.logical}) {
		return false
	}
	a, _, _ := t.around(s, x.physical, byPhysical)
	if !s.follows(a, x) {
		return false
	}
	wrong := func(y span) bool { return y.physical >= x.physical && !s.follows(x, y) }
	t.recent.Load().filter(func(y span) bool { return !wrong(y) })
	for _, c := range s.spans {
		for _, y := range c.all() {
			if wrong(y) {
				s.spans = s.spans.filter(func(y *span) bool { return !wrong(*y) })
				return true
			}
		}
	}
	return true
}

// bound keeps the number of spans bounded; the lock is held.
func (t *Partition) bound(s *state) {
	if len(s.spans) > maxSpans/chunkSpans {
		if s.spans.count() > maxSpans || len(s.spans) > 2*maxSpans/chunkSpans {
			s.spans, t.step = s.spans.thin(t.step)
		}
	}
}

// LearnEnd tells that the log ended at physical a moment ago; the last batch has been taught before, if there is one. An
// owner knows better.
func (t *Partition) LearnEnd(physical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if end := t.physEnd.Load(); t.state.Load().tip == nil && (end == math.MaxInt64 || end < physical) {
		t.physEnd.Store(physical)
	}
}

// LearnStart tells that there is no record below physical any more.
func (t *Partition) LearnStart(physical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.physStart.Load() < physical {
		t.physStart.Store(physical)
	}
}
