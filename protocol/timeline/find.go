package timeline

import "math"

// ProbeEnd, as a probe, asks for the last batch of the log and the offset at which it ends.
const ProbeEnd = math.MaxInt64

// FindPhysical translates the offset that a client wants to read from:
//
//   - Below the floor it returns -1, which every broker answers with OFFSET_OUT_OF_RANGE. (In
//     DeleteRecords -1 means something else, the high watermark; there an offset below the floor
//     deletes nothing.)
//   - In a hole it returns the next record, or void batches before that record. Between the last
//     record and the logical end it returns the physical end.
//   - While the log has not reached the floor yet, it returns the physical end for the floor
//     itself. For an offset between the floor and the first record ever it returns that record.
//   - Beyond the end it returns -1, with two exceptions. If a reader was shown the record before
//     the offset (invariant 7), it returns a place to read on from. If everything that will follow
//     has the same shift, it returns an offset beyond the physical end.
//
// If ok is false, the timeline does not know yet. The caller then does this:
//
//  1. Read the log from the physical offset probe on, or do as ProbeEnd says.
//  2. Call LearnProbe with the first batch that counts. If that batch begins behind probe, also
//     tell LearnProbe that everything from probe on is at or above the batch's logical offset.
//  3. Ask again, with tries one higher.
//
// After the first guesses each probe halves the range that is left. Any offset takes less than 64
// probes; in a log with a million holes it takes less than 24. While ok is false, physical is a
// lower bound of the answer: a client may be sent there if there is no way to learn more. If a
// ProbeEnd did not help, the offset is beyond the end.
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
			logical = b.logical // a hole: find the last span that begins right behind it
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

// between finds a logical offset that lies between the end of one span and the beginning of
// another.
func (t *Partition) between(end, b span, logical int64, tries int) (physical, probe int64, ok bool) {
	// No record is left below the log start offset, so a client that is sent there is not sent too
	// high.
	start := t.physStart.Load()
	if b.physical <= start {
		return end.physical, 0, true // deleted: out of range
	}
	low := max(end.physical, start)
	return low, guess(low, end, b, logical, tries), false
}

const (
	// interpolations is the number of probes that are guessed from the distance to both neighbours.
	// Holes are often spread evenly; if they are not, halving finds the place.
	interpolations = 3
	// denseTries is the number of probes that are guessed as if there were no void batch in
	// between: then the shift only grows, which bounds the place closely. If they have not found
	// the place, the whole range is halved, which takes log2 w more probes for w offsets.
	denseTries = 24
)

// guess returns the offset to probe, in [low, b.physical).
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
		// other neighbour gets close too.
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
	// The record was not announced, but it is in the log: the owner will find it.
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

// FindLogical translates a position in the log: an offset found by timestamp, a high watermark or a
// last stable offset. It returns the logical offset of the record there or of the next record; at
// the end of the log, the logical end. It never returns less than the floor. Negative offsets
// (unknown) stay as they are.
//
// If ok is false, the timeline does not know yet, and logical is a lower bound. The caller then
// reads the log from the physical offset probe on, calls LearnProbe as for FindPhysical, and asks
// again. If no batch counts from probe on, it calls LearnProbe for the last batch that does and for
// the place where that ends, and LearnEnd.
func (t *Partition) FindLogical(physical int64) (logical, probe int64, ok bool) {
	logical, ok, _ = t.position(physical)
	return logical, physical, ok
}

// FindRecord is FindLogical for an offset at which there is a record. FindLogical may take that
// offset for the end of the log, if the log ended there when the end was learned.
func (t *Partition) FindRecord(physical int64) (logical, probe int64, ok bool) {
	logical, ok, end := t.position(physical)
	return logical, physical, ok && !end
}

// RecordAt returns the logical offset of the record at exactly this physical offset. ok is false if
// the timeline does not know of a record there that counts.
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

// position returns the logical offset of a position. end is true if the result is right only if the
// log ends there.
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
				// Another writer's batch may have taken the place. So position treats the log as
				// ending before the announced records, as it did a moment ago, until the owner or a
				// probe says more.
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

// FindLogStart is FindLogical for the log start offset. It returns the source's own log start
// offset if that is known and no record lies between it and the record at physical. This also holds
// if a cleaner has removed the batch at physical, so that no probe could tell what was there.
func (t *Partition) FindLogStart(physical int64) (logical, probe int64, ok bool) {
	logical, probe, ok = t.FindLogical(physical)
	if floor := t.Floor(); !ok || logical > floor {
		if p, _, known := t.FindPhysical(floor, 0); known && p >= physical {
			return floor, 0, true
		}
	}
	return logical, probe, ok
}

// located is what the timeline knows about a position.
type located struct {
	logical int64 // of the record there or of the next one; a lower bound if not known
	known   bool
	here    bool // there is a record at this place
	end     bool // logical is right only if the log ends there
	inTip   bool
}

// locate returns the logical offset of the first record at or behind a physical offset (>= 0).
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
			physical = b.physical // there is no record before it
		case hasB:
			return located{logical: end.logical}
		default:
			// At the end there is nothing more to learn in two cases: the record before the end is
			// known, or no record is left in the log.
			logEnd := t.physEnd.Load()
			known := physical == logEnd && physical == end.physical || physical <= logEnd && logEnd <= t.physStart.Load()
			return located{logical: end.logical, known: known, end: known}
		}
	}
}

// around returns what is known on both sides of an offset that is not below the start: the last
// span that begins at or below it, and the first one above it. hasB is false if nothing is known
// above.
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
			continue // most slots are elsewhere in the log
		}
		x, ok := r.slots[i].load()
		if !ok || !follows(a, x) || hasB && !follows(x, b) {
			continue // it adds nothing to what is known, or contradicts it
		}
		if key(x) <= offset {
			a = x
		} else {
			b, hasB = x, true
		}
	}
	return a, b, hasB
}
