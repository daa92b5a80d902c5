package timeline

import "math"

// Learn teaches the timeline the stamp of a batch that was seen in a response: its records, the
// first one at physical, have the logical offsets from logical on. The batch must be one that
// readers are shown. Learn is cheap if the timeline knows that already.
func (t *Partition) Learn(physical, logical, records int64) {
	t.show(physical+records, logical+records)
	t.learn(physical, logical, records, false)
}

// show notes the end of a batch that a reader is shown.
func (t *Partition) show(physical, logical int64) { t.note(&t.shown, physical, logical) }

func (t *Partition) note(in *slot, physical, logical int64) {
	if logical <= in.logical.Load() {
		return // several readers follow the end of the log; only the first one notes it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if logical > in.logical.Load() {
		in.store(span{physical: physical, logical: logical, n: 1})
	}
}

// Before reports whether the batch right before the physical offset counts and ends at logical. A
// batch with batch.FlagFollows needs that in order to count. sure is false if the timeline does not
// know.
func (t *Partition) Before(physical, logical int64) (counts, sure bool) {
	s := t.state.Load()
	if tip := s.tip; tip != nil && physical >= tip.physical {
		at := tip.logical + physical - tip.physical
		if tip.end.Load() != endless && physical > t.sureEnd(tip) {
			return true, false // the batch before it is only announced
		}
		return at == logical, at == logical || tip.end.Load() != endless
	}
	if physical < s.start.physical {
		return true, false
	}
	a, _, _ := t.around(s, physical, byPhysical)
	switch end := a.end(); {
	case physical < end.physical:
		return true, a.shift() == logical-physical
	case physical == end.physical:
		return end.logical == logical, true
	}
	return true, false
}

// Glimpse notes the end of a batch that a reader is shown at the offset of its stamp, although
// nobody knows whether the batch counts. The reader is right to see it, because what the stamp says
// of its records is true. And the reader must be able to go on from there.
func (t *Partition) Glimpse(physical, logical int64) { t.note(&t.glimpsed, physical, logical) }

// LearnProbe is Learn for a batch that was read on purpose. The timeline keeps it for longer than
// what passes in responses. records = 0: all records from physical on are at or above logical, all
// before it below. A checkpoint says so, and so does a probe from physical on whose first batch is
// at logical.
func (t *Partition) LearnProbe(physical, logical, records int64) {
	if records > 0 {
		t.show(physical+records, logical+records) // the prober gets the answer
	}
	t.learn(physical, logical, records, true)
}

// LearnVoid teaches the timeline that the batch at the physical offsets [from, to) does not count.
// If the timeline knows which logical offset comes next at from, it now places that offset behind
// the batch, so that no reader is sent to the batch again. Otherwise LearnVoid changes nothing.
func (t *Partition) LearnVoid(from, to int64) {
	if from < 0 || to <= from {
		return
	}
	s := t.state.Load()
	switch {
	case s.tip != nil && to > s.tip.physical:
		t.voidInTip(from, to)
	case from >= s.start.physical:
		// A probe from within the batch may have taught more.
		a, _, _ := t.around(s, to-1, byPhysical)
		if end := a.end(); end.physical == from || a.n == 0 && end.physical > from {
			t.learn(to, end.logical, 0, true)
		}
	}
}

// voidInTip is LearnVoid for a place where the owner has announced records, or will announce the
// next ones: they are not at [from, to).
func (t *Partition) voidInTip(from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if s.tip == nil || t.stopped.Load() > 0 {
		return
	}
	tip, n, end := s.tip, from-s.tip.physical, s.tip.end.Load()
	if n < 0 || n > end-tip.logical {
		return
	}
	if there := t.sureInTip(tip); end != endless && n > there {
		// Announced records that nobody has seen may have landed elsewhere. The part of the log
		// before the void batch must be read.
		s.tip = newTip(tip.physical, tip.logical, tip.logical+there)
		t.state.Store(&s)
		return
	}
	if n > 0 {
		s.spans = s.spans.push(span{physical: tip.physical, logical: tip.logical, n: n})
		t.bound(&s)
	}
	next := tip.logical + n
	s.tip = newTip(to, next, next)
	if end == endless {
		s.tip.end.Store(endless)
	}
	if end == endless || end == next { // the hole behind the records stays
		s.tip.until.Store(tip.until.Load())
	}
	t.state.Store(&s)
}

// sureInTip returns how many of the announced records are in the log for sure: their append was
// confirmed, or a reader was shown them.
func (t *Partition) sureInTip(p *tip) (n int64) {
	if end := t.physEnd.Load(); end != math.MaxInt64 {
		n = end - p.physical
	}
	if x, ok := t.shown.load(); ok && p.at(x.logical) == x.physical {
		n = max(n, x.physical-p.physical)
	}
	return max(0, min(n, p.end.Load()-p.logical))
}

// sureEnd returns the physical end of the records that are in the log for sure.
func (t *Partition) sureEnd(p *tip) int64 { return p.physical + t.sureInTip(p) }

func (t *Partition) learn(physical, logical, records int64, keep bool) {
	if t.state.Load().oneRun() || physical < 0 || logical < 0 || records < 0 || records > math.MaxInt32 || records == 0 && !keep {
		return
	}
	x, ok := t.news(t.state.Load(), span{physical: physical, logical: logical, n: records})
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.state.Load()
	if x, ok = t.news(&s, x); !ok {
		return
	}
	t.recent.Load().filter(func(y span) bool { return follows(x, y) || follows(y, x) })
	if a, b, hasA, hasB := s.spans.around(x.physical, byPhysical); keep || hasA && !follows(a, x) || hasB && !follows(x, b) {
		if x, ok = s.join(x); ok {
			s.spans = s.spans.insert(x)
			t.bound(&s)
			t.state.Store(&s)
		}
		return
	}
	r := t.recent.Load()
	if r == nil {
		r = &ring{}
		t.recent.Store(r)
	}
	r.put(x)
}

// news returns the part of x that lies between the start and the tip, where something may be
// learned. ok is false if all of that part is known.
func (t *Partition) news(s *state, x span) (y span, ok bool) {
	if x, ok = x.behind(s.start); !ok || s.tip != nil && !follows(x, s.tip.begin()) {
		return x, false
	}
	a, b, hasB := t.around(s, x.physical, byPhysical)
	switch {
	case x.physical < a.end().physical && x.shift() != a.shift():
		return x, true
	case x.n > 0:
		return x, x.end().physical > a.end().physical
	}
	known := x.physical < a.end().physical || x == a.end() || hasB && settled(a, b) && follows(a, x) && follows(x, b)
	return x, !known
}

// behind returns the part of x that is at or behind start. ok is false if there is none, or if x
// contradicts start.
func (x span) behind(start span) (y span, ok bool) {
	if d := start.physical - x.physical; d > 0 {
		if d >= x.n {
			return x, false
		}
		x = span{physical: start.physical, logical: x.logical + d, n: x.n - d}
	}
	return x, x.logical >= start.logical
}

func (x span) shift() int64 { return x.logical - x.physical }

// join makes room for x among the spans. It merges spans of the same run that touch x into x, and
// drops spans that contradict x, because the log overrides them. ok is false if one span already
// holds all of x.
func (s *state) join(x span) (y span, ok bool) {
	touches := func(y *span) bool {
		return x.shift() == y.shift() && x.physical <= y.end().physical && y.physical <= x.end().physical
	}
	fits := true
	for _, c := range s.spans {
		for i := range c.all() {
			switch y := &c.a[i]; {
			case touches(y):
				low, high := min(x.physical, y.physical), max(x.end().physical, y.end().physical)
				if low == y.physical && high == y.end().physical {
					return x, false
				}
				x, fits = span{physical: low, logical: low + x.shift(), n: high - low}, false
			case !follows(x, *y) && !follows(*y, x):
				fits = false
			}
		}
	}
	if !fits {
		s.spans = s.spans.filter(func(y *span) bool { return !touches(y) && (follows(x, *y) || follows(*y, x)) })
	}
	return x, true
}

// bound keeps the number of spans bounded. The caller holds the lock.
func (t *Partition) bound(s *state) {
	if len(s.spans) > maxSpans/chunkSpans {
		if s.spans.count() > maxSpans || len(s.spans) > 2*maxSpans/chunkSpans {
			s.spans, t.step = s.spans.thin(t.step)
		}
	}
}

// LearnEnd teaches the timeline that the log ended at physical a moment ago. The caller has taught
// the last batch before, if there is one. If the timeline has an owner, LearnEnd does nothing,
// because the owner knows better.
func (t *Partition) LearnEnd(physical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if end := t.physEnd.Load(); t.state.Load().tip == nil && (end == math.MaxInt64 || end < physical) {
		t.physEnd.Store(physical)
	}
}

// LearnStart teaches the timeline that there is no record below physical any more: the log begins
// there, or no batch before it counts.
func (t *Partition) LearnStart(physical int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.physStart.Load() < physical {
		t.physStart.Store(physical)
	}
}
