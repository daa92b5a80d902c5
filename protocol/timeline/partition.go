// Package timeline relates the offsets of the source (logical) to those of the destination
// (physical), per partition of a mirror. It is pure: no sockets, no clock, no goroutine.
package timeline

import (
	"math"
	"sync"
	"sync/atomic"
)

// Partition is the timeline of one mirror partition. The log is a sequence of runs of constant
// shift = logical - physical. Where the source has a hole (a transaction marker, an aborted batch,
// a compacted record) a run ends, and the next one stands at a higher logical offset. Where the log
// has void batches (batch.Counts), which nobody is shown, a run ends too, and the next one stands
// at a higher physical offset. Runs are not kept: the stamps in the log tell them. What is kept are
// some places where both offsets are known (spans); a handful of probes finds any offset between
// two of them.
//
// Invariants:
//  1. Every span is true of the log, or of what its owner is about to append. So any of them may be
//     forgotten, at the cost of probes, and a reader may see some and not others. A batch that
//     counts is believed more than what was known.
//  2. Along the log both offsets grow. Nothing else is known of what lies between two spans: the
//     shift grows with each hole, and shrinks with each void batch. Two spans of the same shift may
//     have both between them. Only where one of both offsets does not move from the end of a span
//     to the next one is there no record in between.
//  3. What is said of a fetch offset is never above the truth: a client that is sent too low sees
//     records that it skips, one that is sent too high would lose some. What is said of a high
//     watermark is never above the truth either.
//  4. Beyond the last announced record nothing is promised: where it will be depends on holes to
//     come.
//  5. floor <= every logical offset shown to a client: records of a first batch that starts below
//     the source's log start are in the log for a moment, until DeleteRecords has hidden them, but
//     no offset below floor is ever told.
//  6. floor never goes down, and never above the logical end but while the log is empty.
//  7. Who was shown a record is never told that the offset behind it is out of range, even while
//     the owner believes that the log ends before it: an append that was believed lost may reach
//     the log after the owner has read its end.
//  8. Negative offsets are Kafka's "unknown" and "none", not positions: they are never made into
//     one, and no position ever becomes one by accident.
//
// One goroutine, the partition's owner, calls the methods of owner.go. Any goroutine may translate
// and teach (Learn...). Translating takes no lock, and does not allocate.
type Partition struct {
	state atomic.Pointer[state]
	// physEnd is the physical log end if known, else MaxInt64; physStart the log start as far as
	// known.
	physEnd   atomic.Int64
	stopped   atomic.Int64 // one more than the physical offset of End, 0 = the mirroring has not ended
	physStart atomic.Int64
	changed   atomic.Uint64 // when offsets began to mean other records last, by Clock; 0 = never

	// shown is the end of the last record that any reader was shown, in both offsets; glimpsed that
	// of one that was shown though nobody knew whether its batch counts (Before).
	shown, glimpsed slot

	mu     sync.Mutex // writers
	recent atomic.Pointer[ring]
	step   int64 // see thin
}

// state is immutable, but for the last chunk of spans, which grows, and the ends in tip.
type state struct {
	start span // of no records: the lowest place that is known
	floor int64
	spans spans // known runs, or parts of such, between start and tip
	tip   *tip  // nil = what follows the last span is not known
}

// tip is the run at the end of the log, where there is somebody to say that it is: the owner, or
// the stored end of a stopped mirror. A new run has a new tip, so that a reader never mixes the
// ends of one with the offsets of another.
type tip struct {
	physical, logical int64
	// end is the logical offset after the last record that was announced. endless: all that will
	// come has this shift.
	end atomic.Int64
	// until is the logical end of the log if that is further: there is a hole between end and
	// until.
	until atomic.Int64
}

const endless = math.MaxInt64

// span says that n records in a row, the first one at physical, have the logical offsets from
// logical on. n = 0: all records from physical on are at or above logical, all before it below.
type span struct{ physical, logical, n int64 }

// end is the place behind a span.
func (x span) end() span { return span{physical: x.physical + x.n, logical: x.logical + x.n} }

// follows is true if b can stand behind a.
func follows(a, b span) bool {
	end := a.end()
	return b.physical >= end.physical && b.logical >= end.logical
}

// settled is true if there is no record between a and b, which follows it.
func settled(a, b span) bool {
	end := a.end()
	return b.physical == end.physical || b.logical == end.logical
}

// New makes a timeline in which physical offset physical is logical offset logical, and no logical
// offset below floor is shown. All that follows has the same shift, until its owner says otherwise.
func New(physical, logical, floor int64) *Partition {
	t := Open(physical, logical, floor)
	s := *t.state.Load()
	s.tip = newTip(physical, logical, endless)
	t.state.Store(&s)
	return t
}

// Open makes a timeline of a log that may have holes, and that somebody may be appending to:
// physical offset physical is logical offset logical or belongs to the first record above it, and
// what follows has to be learned.
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

// fork is a tip of its own that begins at the same place.
func (p *tip) fork(end int64) *tip {
	q := newTip(p.physical, p.logical, end)
	q.until.Store(p.until.Load())
	return q
}

// begin is where the run begins.
func (p *tip) begin() span { return span{physical: p.physical, logical: p.logical} }

// at is where a logical offset stands in the run, which is in it.
func (p *tip) at(logical int64) int64 { return p.physical + logical - p.logical }

// Shift is logical - physical at the end of the log, as far as it is known.
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

// Start is the lowest place that is known: what is before physical is not told of any more, and
// where nothing was ever appended the log ends there.
func (t *Partition) Start() (physical, logical int64) {
	s := t.state.Load().start
	return s.physical, s.logical
}

// Floor is the lowest logical offset that is shown, the source's log start as last seen.
func (t *Partition) Floor() int64 { return t.state.Load().floor }

// PhysicalEnd is the end of the log as last published; known is false if it never was.
func (t *Partition) PhysicalEnd() (physical int64, known bool) {
	p := t.physEnd.Load()
	return p, p != math.MaxInt64
}

// OneRun is true if the shift is known to be the same everywhere: nothing will ever have to be
// probed, for now.
func (t *Partition) OneRun() bool { return t.state.Load().oneRun() }

func (s *state) oneRun() bool {
	return s.tip != nil && s.tip.begin() == s.start
}

// Behind is true if physical is at or behind the end of the mirroring, where the topic's own
// records are.
func (t *Partition) Behind(physical int64) bool {
	end := t.stopped.Load()
	return end > 0 && physical >= end-1
}

// ToPhysical translates the offset a client wants to read from, or as good as can be told without a
// probe: never too high. See FindPhysical.
func (t *Partition) ToPhysical(logical int64) int64 {
	p, _, _ := t.FindPhysical(logical, 0)
	return p
}

// ToLogical translates a position in the log (log start, high watermark), or as good as can be told
// without a probe: never too high, and never below the floor. Negative offsets (unknown) stay as
// they are. See FindLogical.
func (t *Partition) ToLogical(physical int64) int64 {
	l, _, _ := t.FindLogical(physical)
	return l
}

// BaseToLogical translates the base offset of a batch, in a fetch or produce response; it may lie
// below the floor. Negative offsets (unknown) stay as they are. Where a probe would be needed it is
// never too high.
func (t *Partition) BaseToLogical(physical int64) int64 {
	if physical < 0 {
		return physical
	}
	return t.locate(t.state.Load(), physical).logical
}

// add adds a shift to an offset >= 0 and stays within 63 bits: a client may ask for any offset.
func add(offset, shift int64) int64 {
	if shift > 0 && offset > math.MaxInt64-shift {
		return math.MaxInt64
	}
	return offset + shift
}
