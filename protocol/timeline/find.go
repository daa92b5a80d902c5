package timeline

import "math"

// ProbeEnd, as a probe, is the last batch of the log and the offset where it ends.
const ProbeEnd = math.MaxInt64

// FindPhysical translates the offset a client wants to read from.
//
//   - Below the floor it is -1, which every broker answers with OFFSET_OUT_OF_RANGE. (In
//     DeleteRecords -1 means something else, the high watermark; there an offset below the floor
//     deletes nothing.)
//   - In a hole it is the next record, or void batches before that; between the last record and the
//     logical end, the physical end.
//   - The floor, while the log has not reached it yet, is the physical end; an offset between the
//     floor and the first record ever is that record.
//   - Beyond the end it is -1, unless a reader was shown the record before it (invariant 7), or,
//     where all that will come has the same shift, beyond the physical end.
//
// If ok is false that is not known yet: read the log from the physical offset probe on (or do as
// ProbeEnd says), teach LearnProbe what the first batch says that counts, and ask again with tries
// one higher. If that batch begins behind probe, LearnProbe has to be told that too: what stands
// from probe on is at or above its logical offset. So each probe halves what is open at last, and
// any offset is found with less than 64; a million holes take less than 24. physical is meanwhile a
// lower bound of the answer: a client may be sent there if there is no way to learn more. After a
// ProbeEnd that did not help, the offset is beyond the end.
func (t *Partition) FindPhysical(logical int64, tries int) (physical, probe int64, ok bool) {
	s := t.state.Load()
	if logical < s.floor || logical < 0 {
		return -1, 0, true
	}
	for logical = max(logical, s.start.logical); ; {
		if s.tip != nil && logical >= s.tip.logical {
			return t.physicalInTip(s, logical), 0, true
		}
		a, b, hasB := t.around(s, logical, byLogical)
		end := a.end()
		switch {
		case logical < end.logical:
			return end.physical - (end.logical - logical), 0, true
		case hasB && b.physical == end.physical:
			logical = b.logical // a hole; of what is known to begin behind it the last is what is looked for
		case logical == end.logical:
			return end.physical, 0, true
		case !hasB:
			if x, ok := t.glimpsed.load(); ok && logical <= x.logical {
				return end.physical, ProbeEnd, false
			}
			return -1, ProbeEnd, false
		default:
			return t.between(end, b, logical, tries)
		}
	}
}

// between looks for a logical offset between the end of one span and the begin of another one.
func (t *Partition) between(end, b span, logical int64, tries int) (physical, probe int64, ok bool) {
	// Of the records below the log start none is left, so that nobody who is sent there is sent too
	// high.
	start := t.physStart.Load()
	if b.physical <= start {
		return end.physical, 0, true // deleted: out of range
	}
	low := max(end.physical, start)
	return low, guess(low, end, b, logical, tries), false
}

const (
	// interpolations is how many probes are guessed from the distance to both neighbours. Holes are
	// often spread evenly; where they are not, halving finds the place.
	interpolations = 3
	// denseTries is how many probes are guessed as if there were no void batch in between: then the
	// shift only grows, which bounds the place closely. If they have not found it the whole range
	// is halved: in w offsets with log2 w probes more.
	denseTries = 24
)

// guess chooses what to probe, in [low, b.physical).
func guess(low int64, end, b span, logical int64, tries int) int64 {
	high := b.physical
	if tries < denseTries {
		from, to := max(low, b.physical-(b.logical-logical)), min(high-1, add(end.physical, logical-end.logical))
		if from <= to {
			low, high = from, to+1
		}
	}
	if tries >= interpolations {
		return low + (high-low)/2
	}
	at := end.physical + int64(float64(b.physical-end.physical)*(float64(logical-end.logical)/float64(b.logical-end.logical)))
	if tries > 0 {
		// One neighbour is the last guess, and probably close. Step over the place, so that the
		// other gets close too.
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
	end, until := s.tip.end.Load(), max(s.tip.until.Load(), s.floor)
	switch {
	case end == endless:
		p := max(add(logical, s.tip.physical-s.tip.logical), 0)
		if end := t.physEnd.Load(); p > end && logical <= until {
			return end
		}
		return p
	case logical <= end:
		return s.tip.at(logical)
	case logical <= until:
		return s.tip.at(end)
	}
	// Not announced, but there: the owner will find it.
	switch x, ok := t.shown.load(); {
	case ok && logical == x.logical:
		return x.physical
	case ok && logical < x.logical:
		return s.tip.at(end)
	}
	if x, ok := t.glimpsed.load(); ok && logical <= x.logical {
		return s.tip.at(end)
	}
	return -1
}

// FindLogical translates a position in the log (an offset found by timestamp, high watermark, last
// stable offset): to the logical offset of the record there or of the next one, or at the end of
// the log to the logical end. It is never below the floor. Negative offsets (unknown) stay as they
// are.
//
// If ok is false that is not known yet: read the log from the physical offset probe on, teach
// LearnProbe as for FindPhysical (or, if no batch counts there, what the last one says that does,
// where that ends, and LearnEnd), and ask again. logical is then a lower bound.
func (t *Partition) FindLogical(physical int64) (logical, probe int64, ok bool) {
	logical, ok, _ = t.position(physical)
	return logical, physical, ok
}

// FindRecord is FindLogical of an offset where there is a record. FindLogical may take it for the
// end of the log, where that was when it was learned.
func (t *Partition) FindRecord(physical int64) (logical, probe int64, ok bool) {
	logical, ok, end := t.position(physical)
	return logical, physical, ok && !end
}

// RecordAt is the logical offset of the record at exactly this physical offset; ok is false if it
// is not known that there is one that counts.
func (t *Partition) RecordAt(physical int64) (logical int64, ok bool) {
	if physical < 0 {
		return 0, false
	}
	s := t.state.Load()
	p := t.locate(s, physical)
	if p.inTip {
		return p.logical, physical >= s.tip.physical && p.logical < s.tip.end.Load()
	}
	return p.logical, p.here
}

// position finds the logical offset of a position. end is true if that is known only if the log
// ends there.
func (t *Partition) position(physical int64) (logical int64, ok, end bool) {
	if physical < 0 {
		return physical, true, false
	}
	s := t.state.Load()
	p := t.locate(s, physical)
	if p.inTip {
		end, until := s.tip.end.Load(), s.tip.until.Load()
		switch {
		case end == endless && physical == t.physEnd.Load():
			p.logical = max(p.logical, until)
		case end != endless:
			n := t.sureInTip(s.tip)
			announced := physical > s.tip.physical+n
			switch {
			case announced:
				// Somebody else's batch may have taken the place. So the log ends before it, as it
				// did a moment ago, until its owner or a look says more.
				p.logical, p.end = s.tip.logical+n, true
			case p.logical >= end:
				p.logical = max(end, until)
			}
			if x, ok := t.shown.load(); ok && x.physical <= physical && (announced || p.logical >= end) {
				p.logical = max(p.logical, x.logical)
			}
		}
	}
	return max(p.logical, s.floor), p.known, p.end
}

// FindLogStart is FindLogical of the log start. Where the source's own log start is known, and
// there is no record between it and the one at physical, that is what it was at the source. That
// holds, too, where a cleaner has removed the batch at physical, so that no probe can tell what was
// there.
func (t *Partition) FindLogStart(physical int64) (logical, probe int64, ok bool) {
	logical, probe, ok = t.FindLogical(physical)
	if floor := t.Floor(); !ok || logical > floor {
		if p, _, known := t.FindPhysical(floor, 0); known && p >= physical {
			return floor, 0, true
		}
	}
	return logical, probe, ok
}

// located is what is known of a position.
type located struct {
	logical int64 // of the record there or the next one; a lower bound, unless known
	known   bool
	here    bool // there is a record at this place
	end     bool // known only if the log ends there
	inTip   bool
}

// locate finds the logical offset of the record at or behind a physical offset (>= 0).
func (t *Partition) locate(s *state, asked int64) located {
	for physical := asked; ; {
		if s.tip != nil && (physical >= s.tip.physical || s.oneRun()) {
			inTip := physical >= s.tip.physical
			return located{logical: add(physical, s.tip.logical-s.tip.physical), known: true, here: !inTip, inTip: inTip}
		}
		if physical < s.start.physical {
			return located{logical: physical + s.start.logical - s.start.physical, known: true}
		}
		a, b, hasB := t.around(s, physical, byPhysical)
		end := a.end()
		switch {
		case physical < end.physical:
			return located{logical: end.logical - (end.physical - physical), known: true, here: physical == asked}
		case hasB && (settled(a, b) || b.physical <= t.physStart.Load()):
			physical = b.physical // no record comes before it
		case hasB:
			return located{logical: end.logical}
		default:
			// At the end there is nothing more to learn if the record before it is known, or if
			// none is left in the log.
			logEnd := t.physEnd.Load()
			known := physical == logEnd && physical == end.physical || physical <= logEnd && logEnd <= t.physStart.Load()
			return located{logical: end.logical, known: known, end: known}
		}
	}
}

// around finds what is known on both sides of an offset >= that of the start: the last span that
// begins at or below it, and the first one above it. hasB is false if nothing is known above.
func (t *Partition) around(s *state, offset int64, key func(span) int64) (a, b span, hasB bool) {
	a = s.start
	x, y, hasX, hasY := s.spans.around(offset, key)
	if hasX {
		a = x
	}
	switch {
	case hasY:
		b, hasB = y, true
	case s.tip != nil:
		b, hasB = s.tip.begin(), true
	}
	r := t.recent.Load()
	if r == nil || offset < key(a.end()) || hasB && settled(a, b) {
		return a, b, hasB
	}
	for i := range r.slots {
		if l := r.slots[i].logical.Load(); l < a.logical || hasB && l >= b.logical {
			continue // most are elsewhere
		}
		x, ok := r.slots[i].load()
		if !ok || !follows(a, x) || hasB && !follows(x, b) {
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
