// Package timeline relates the offsets of the source (logical) to those of the destination
// (physical), per partition of a mirror. It is pure: no sockets, no clock, no goroutine.
package timeline

import (
	"math"
	"sync"
	"sync/atomic"
)

// Partition is the timeline of one mirror partition. The log is a sequence of runs, in each of
// which shift = logical - physical is constant. A run ends in two cases:
//
//   - The source has a hole (a transaction marker, an aborted batch, a compacted record): the next
//     run starts at a higher logical offset.
//   - The log has void batches (batch.Counts), which no reader is shown: the next run starts at a
//     higher physical offset.
//
// Partition does not store the runs, because the stamps in the log tell them. It stores some places
// where both offsets are known (spans). A handful of probes finds any offset between two of them.
//
// Invariants:
//  1. Every span is true of the log, or of what its owner is about to append. So any span may be
//     forgotten, at the cost of probes, and a reader may see some spans and not others. A batch
//     that counts overrides what was known before.
//  2. Along the log both offsets grow. Nothing else is known about what lies between two spans:
//     each hole makes the shift larger, each void batch smaller. Two spans of the same shift may
//     have both between them. Only if one of the two offsets does not move from the end of a span
//     to the next span is there no record in between.
//  3. The fetch offset that a client is given is never too high: a client that is sent too low
//     skips records, one that is sent too high would lose some. The high watermark is never too
//     high either.
//  4. The timeline promises nothing beyond the last announced record: where the next one will stand
//     depends on holes to come.
//  5. floor <= every logical offset shown to a client. Records of a first batch that starts below
//     the source's log start offset are in the log for a moment, until DeleteRecords has hidden
//     them, but no client gets an offset below floor.
//  6. floor never goes down. It is above the logical end only while the log is empty.
//  7. A reader that was shown a record is never told that the offset behind it is out of range,
//     even while the owner believes that the log ends before it. An append that was believed lost
//     may reach the log after the owner has read its end.
//  8. Negative offsets are Kafka's "unknown" and "none", not positions. They are never translated
//     into a position, and no position is ever translated into one.
//
// Only one goroutine, the partition's owner, calls the methods of owner.go. Any goroutine may
// translate and teach (Learn...). Translating takes no lock, and does not allocate.
type Partition struct {
	state atomic.Pointer[state]
	// physEnd is the physical end of the log, MaxInt64 if unknown. physStart is the highest log
	// start offset that is known.
	physEnd   atomic.Int64
	stopped   atomic.Int64 // physical offset of End plus one; 0 = the mirroring has not ended
	physStart atomic.Int64
	changed   atomic.Uint64 // the Clock when offsets last changed their meaning; 0 = never

	// shown is the end of the last record that any reader was shown, in both offsets. glimpsed is
	// the same for a record whose batch may not count (Before).
	shown, glimpsed slot

	mu     sync.Mutex // writers
	recent atomic.Pointer[ring]
	step   int64 // see thin
}

// state is immutable, except that the last chunk of spans grows, and the ends in tip move.
type state struct {
	start span // has no records: the lowest place that is known
	floor int64
	spans spans // known runs, or parts of such, between start and tip
	tip   *tip  // nil = what follows the last span is not known
}

// tip is the run at the end of the log. It exists if somebody knows that end: the owner, or the
// stored end of a stopped mirror. A new run gets a new tip, so that a reader never mixes the ends
// of one run with the offsets of another.
type tip struct {
	physical, logical int64
	// end is the logical offset after the last announced record. endless: everything that will
	// follow has this shift.
	end atomic.Int64
	// until is the logical end of the log, if it is beyond end: there is a hole between end and
	// until.
	until atomic.Int64
}

const endless = math.MaxInt64

// span states that n consecutive records, the first one at physical, have the logical offsets from
// logical on. n = 0: all records from physical on are at or above logical, all before it below.
type span struct{ physical, logical, n int64 }

// end returns the place behind the span.
func (x span) end() span { return span{physical: x.physical + x.n, logical: x.logical + x.n} }

// follows reports whether b can stand behind a.
func follows(a, b span) bool {
	end := a.end()
	return b.physical >= end.physical && b.logical >= end.logical
}

// settled reports whether it is certain that no record lies between a and b; b follows a.
func settled(a, b span) bool {
	end := a.end()
	return b.physical == end.physical || b.logical == end.logical
}

// New returns a timeline in which the physical offset physical is the logical offset logical. It
// shows no logical offset below floor. Everything that follows has the same shift, until the owner
// says otherwise.
func New(physical, logical, floor int64) *Partition {
	t := Open(physical, logical, floor)
	s := *t.state.Load()
	s.tip = newTip(physical, logical, endless)
	t.state.Store(&s)
	return t
}

// Open returns the timeline of a log that may have holes, and that somebody may be appending to.
// The physical offset physical is the logical offset logical, or belongs to the first record above
// it. What follows has to be learned.
func Open(physical, logical, floor int64) *Partition {
	t := &Partition{}
	t.physEnd.Store(math.MaxInt64)
	t.state.Store(&state{start: span{physical: physical, logical: logical}, floor: floor})
	return t
}

func newTip(physical, logical, end int64) *tip {
	p := &tip{physical: physical, logical: logical}
	p.end.Store(end)
	return p
}

// fork returns a new tip that begins at the same place.
func (p *tip) fork(end int64) *tip {
	q := newTip(p.physical, p.logical, end)
	q.until.Store(p.until.Load())
	return q
}

// begin returns the place where the run begins.
func (p *tip) begin() span { return span{physical: p.physical, logical: p.logical} }

// at returns the physical offset of a logical offset in the run.
func (p *tip) at(logical int64) int64 { return p.physical + logical - p.logical }

// Shift returns logical - physical at the end of the log, as far as it is known.
func (t *Partition) Shift() int64 {
	s := t.state.Load()
	last := s.start
	if s.tip != nil {
		last = s.tip.begin()
	} else if x, ok := s.spans.last(); ok {
		last = x
	}
	return last.logical - last.physical
}

// Start returns the lowest place that is known. The timeline no longer knows what is before
// physical. If nothing was ever appended, the log ends at physical.
func (t *Partition) Start() (physical, logical int64) {
	s := t.state.Load().start
	return s.physical, s.logical
}

// Floor returns the lowest logical offset that clients are shown: the source's log start offset as
// last seen.
func (t *Partition) Floor() int64 { return t.state.Load().floor }

// PhysicalEnd returns the physical end of the log as last published. known is false if it never
// was.
func (t *Partition) PhysicalEnd() (physical int64, known bool) {
	p := t.physEnd.Load()
	return p, p != math.MaxInt64
}

// OneRun reports whether the shift is known to be the same everywhere, so that currently no offset
// needs a probe.
func (t *Partition) OneRun() bool { return t.state.Load().oneRun() }

func (s *state) oneRun() bool {
	return s.tip != nil && s.tip.begin() == s.start
}

// Behind reports whether physical is at or behind the end of the mirroring, where the topic's own
// records are.
func (t *Partition) Behind(physical int64) bool {
	end := t.stopped.Load()
	return end > 0 && physical >= end-1
}

// ToPhysical translates the offset that a client wants to read from. Without a probe the result may
// be too low, never too high. See FindPhysical.
func (t *Partition) ToPhysical(logical int64) int64 {
	p, _, _ := t.FindPhysical(logical, 0)
	return p
}

// ToLogical translates a position in the log (log start offset, high watermark). Without a probe
// the result may be too low, never too high, and never below the floor. Negative offsets (unknown)
// stay as they are. See FindLogical.
func (t *Partition) ToLogical(physical int64) int64 {
	l, _, _ := t.FindLogical(physical)
	return l
}

// BaseToLogical translates the base offset of a batch in a fetch or produce response. The result
// may lie below the floor. If a probe would be needed, it may be too low, never too high. Negative
// offsets (unknown) stay as they are.
func (t *Partition) BaseToLogical(physical int64) int64 {
	if physical < 0 {
		return physical
	}
	return t.locate(t.state.Load(), physical).logical
}

// add adds a shift to an offset >= 0 and stays within 63 bits, because a client may ask for any
// offset.
func add(offset, shift int64) int64 {
	if shift > 0 && offset > math.MaxInt64-shift {
		return math.MaxInt64
	}
	return offset + shift
}
