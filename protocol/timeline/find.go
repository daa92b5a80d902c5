package timeline

import "math"

// ProbeEnd, as a probe, is the last batch of the log and the offset where it ends.
const ProbeEnd = math.MaxInt64

// FindPhysical translates the offset a client wants to read from.
//
//   - Below the floor it is -1, which every broker answers with OFFSET_OUT_OF_RANGE. (In DeleteRecords -1 means something
//     else, the high watermark; there an offset below the floor deletes nothing.)
//   - In a hole it is the next record; between the last record and the logical end, the physical end.
//   - The floor, while the log has not reached it yet, is the physical end; an offset between the floor and the first
//     record ever is that record.
//   - Beyond the end it is -1, unless a reader was shown the record before it (invariant 7), or, where all that will come has the same shift, beyond the physical end.
//
// If ok is false that is not known yet: read the batch that holds the physical offset probe (or do as ProbeEnd says), teach
// LearnProbe what its stamp says, and ask again with tries one higher; a million holes take less than 24. physical is then
// a lower bound of the answer: a client may be sent there if there is no way to learn more. After a ProbeEnd
// that did not help, the offset is beyond the end.
func (t *Partition) FindPhysical(logical int64, tries int) (physical, probe int64, ok bool) {
	s := t.state.Load()
	switch {
	case logical < s.floor || logical < 0:
		return -1, 0, true
	case s.tip != nil && logical >= s.tip.logical:
		return t.physicalInTip(s, logical), 0, true
	case logical < s.start.logical:
		return s.hidden.physical(s.hidden.visible(s.start.physical)), 0, true
	}
	a, b, hasB := t.around(s, logical, byLogical)
	endV, endL := s.hidden.visible(a.physical)+a.n, a.logical+a.n
	switch {
	case logical <= endL:
		return s.hidden.physical(endV - (endL - logical)), 0, true
	case !hasB:
		return -1, ProbeEnd, false
	}
	v := s.hidden.visible(b.physical)
	switch {
	case v <= endV: // a hole
		return s.hidden.physical(v), 0, true
	case v-endV == b.logical-endL: // one run
		return s.hidden.physical(endV + logical - endL), 0, true
	}
	// The shift grows from a to b, which bounds the place from both sides.
	low, high := max(endV, v-(b.logical-logical)), min(v, endV+logical-endL)
	if low >= high { // above, if the shift shrinks: something is hidden that is not known to be
		return s.hidden.physical(max(min(low, high), endV)), 0, true
	}
	// Of the records below the log start none is left, so that nobody who is sent there is sent too high.
	start := s.hidden.visible(t.physStart.Load())
	from := max(low, start)
	switch {
	case high < start, high == start && v == start: // deleted: out of range
		return s.hidden.physical(low), 0, true
	case low < start && high == start: // the first record that is left, or one before it: the batch there tells
		return s.hidden.physical(from), s.hidden.physical(start), false
	}
	at := guess(from, high, endV, v, logical-endL, b.logical-endL, tries)
	return s.hidden.physical(from), s.hidden.physical(at), false
}

// interpolations is how many probes are guessed from the distance to both neighbours. Holes are often spread evenly; where
// they are not, halving finds the place: in w offsets with at most interpolations + log2 w probes.
const interpolations = 3

// guess chooses what to probe in [low, high). The record that is looked for is num/den of the way from v0 to v1, if holes
// are spread evenly.
func guess(low, high, v0, v1, num, den int64, tries int) int64 {
	if tries >= interpolations {
		return low + (high-low)/2
	}
	at := v0 + int64(float64(v1-v0)*(float64(num)/float64(den)))
	if tries > 0 {
		// One neighbour is the last guess, and probably close. Step over the place, so that the other gets close too.
		over := int64(math.Sqrt(float64(high - low)))
		if at-low < high-at {
			at += over
		} else {
			at -= over
		}
	}
	return min(max(at, low), high-1)
}

func (t *Partition) physicalInTip(s *state, logical int64) int64 {
	base := s.hidden.visible(s.tip.physical)
	end, until := s.tip.end.Load(), max(s.tip.until.Load(), s.floor)
	switch {
	case end == endless:
		p := max(s.hidden.physical(add(logical, base-s.tip.logical)), 0)
		if end := t.physEnd.Load(); p > end && logical <= until {
			return end
		}
		return p
	case logical <= end:
		return s.hidden.physical(base + logical - s.tip.logical)
	case logical <= until:
		return s.hidden.physical(base + end - s.tip.logical)
	}
	// Not announced, but there: the owner will find it.
	switch x, ok := t.shown.load(); {
	case ok && logical == x.logical:
		return x.physical
	case ok && logical < x.logical:
		return s.hidden.physical(base + end - s.tip.logical)
	}
	return -1
}

// FindLogical translates a position in the log (an offset found by timestamp, high watermark, last stable offset): to the
// logical offset of the record there, or at the end of the log to the logical end. It is never below the floor. Negative
// offsets (unknown) stay as they are.
//
// If ok is false that is not known yet: read the batch that holds the physical offset probe, teach LearnProbe what its stamp
// says (or LearnEnd, if there is none), and ask again. logical is then a lower bound.
func (t *Partition) FindLogical(physical int64) (logical, probe int64, ok bool) {
	if physical < 0 {
		return physical, 0, true
	}
	s := t.state.Load()
	l, probe, ok, inTip := t.locate(s, physical)
	if inTip {
		end, until := s.tip.end.Load(), s.tip.until.Load()
		switch {
		case end == endless && physical == t.physEnd.Load():
			l = max(l, until)
		case end != endless && l >= end:
			l = max(end, until, min(l, t.shown.logical.Load()))
		}
	}
	return max(l, s.floor), probe, ok
}

// FindRecord is FindLogical of an offset where there is a record. FindLogical may take it for the end of the log, where that
// was when it was learned.
func (t *Partition) FindRecord(physical int64) (logical, probe int64, ok bool) {
	logical, probe, ok = t.FindLogical(physical)
	s := t.state.Load()
	at := s.hidden.visible(physical)
	if ok && at == s.hidden.visible(t.physEnd.Load()) && (s.tip == nil || at < s.hidden.visible(s.tip.physical)) {
		a, _, _ := t.around(s, physical, byPhysical)
		ok = at < s.hidden.visible(a.physical)+a.n
	}
	return logical, probe, ok
}

// FindLogStart is FindLogical of the log start. Where the source's own log start is known, and there is no record between it
// and the one at physical, that is what it was at the source. That holds, too, where a cleaner has removed the batch at
// physical, so that no probe can tell what was there.
func (t *Partition) FindLogStart(physical int64) (logical, probe int64, ok bool) {
	logical, probe, ok = t.FindLogical(physical)
	if floor := t.Floor(); !ok || logical > floor {
		if p, _, known := t.FindPhysical(floor, 0); known && p == physical {
			return floor, 0, true
		}
	}
	return logical, probe, ok
}

// locate finds the logical offset of the record at physical (>= 0), or a lower bound.
func (t *Partition) locate(s *state, physical int64) (logical, probe int64, ok, inTip bool) {
	at := s.hidden.visible(physical)
	if s.tip != nil {
		if v := s.hidden.visible(s.tip.physical); at >= v || s.oneRun() {
			return add(at, s.tip.logical-v), 0, true, at >= v
		}
	}
	if v := s.hidden.visible(s.start.physical); at < v {
		return at + s.start.logical - v, 0, true, false
	}
	a, b, hasB := t.around(s, physical, byPhysical)
	endV, endL := s.hidden.visible(a.physical)+a.n, a.logical+a.n
	low := endL + at - endV
	switch {
	case at < endV:
		return low, 0, true, false
	case !hasB:
		// At the end there is nothing more to learn if the record before it is known, or was deleted.
		start, end := s.hidden.visible(t.physStart.Load()), s.hidden.visible(t.physEnd.Load())
		return low, physical, at == end && (at == endV || at <= start), false
	}
	v := s.hidden.visible(b.physical)
	switch high := b.logical - (v - at); {
	case at >= v && b.n == 0 && (s.tip == nil || b.physical != s.tip.physical):
		return t.locate(s, b.physical) // hidden, just before a checkpoint, which may lie before a hole
	case at >= v: // hidden, just before b
		return b.logical, 0, true, false
	case low >= high:
		return min(low, b.logical), physical, low == high, false
	}
	return low, physical, false, false
}

// around finds what is known on both sides of an offset >= that of the start: the last span that begins at or below it, and
// the first one above it. hasB is false if nothing is known above.
func (t *Partition) around(s *state, offset int64, key func(span) int64) (a, b span, hasB bool) {
	a = s.start
	x, y, hasX, hasY := s.spans.around(offset, key)
	if hasX && x.physical >= a.physical {
		a = x
	}
	switch {
	case hasY:
		b, hasB = y, true
	case s.tip != nil:
		b, hasB = span{physical: s.tip.physical, logical: s.tip.logical}, true
	}
	r := t.recent.Load()
	if r == nil || offset < key(a)+a.n || hasB && s.settled(a, b) {
		return a, b, hasB
	}
	for i := range r.slots {
		if l := r.slots[i].logical.Load(); l < a.logical || hasB && l >= b.logical {
			continue // most are elsewhere
		}
		x, ok := r.slots[i].load()
		if !ok || !s.follows(a, x) || hasB && !s.follows(x, b) {
			continue // less than what is known, or not in keeping with it
		}
		if key(x) <= offset {
			a = x
		} else {
			b, hasB = x, true
		}
	}
	return a, b, hasB
}

// settled is true if nothing is open between two spans.
func (s *state) settled(a, b span) bool {
	records := s.hidden.visible(b.physical) - s.hidden.visible(a.physical) - a.n
	return records <= 0 || records == b.logical-a.logical-a.n
}

// follows is true if b can stand behind a: both offsets and the shift have grown.
func (s *state) follows(a, b span) bool {
	records := s.hidden.visible(b.physical) - s.hidden.visible(a.physical) - a.n
	return records >= 0 && b.logical-a.logical-a.n >= records
}
