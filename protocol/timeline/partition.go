// Package timeline relates the offsets of the source (logical) to those of the destination (physical), per partition of
// a mirror. It is pure: no sockets, no clock, no goroutine.
package timeline

import (
	"math"
	"sync/atomic"
)

// Partition is the timeline of one mirror partition with one run of constant shift.
//
// Invariants:
//  1. logical = physical + shift for every record in the log.
//  2. The shift changes only while the physical log has never held a record (a new mirror whose first batch starts
//     elsewhere than was thought); the change is published before the first append.
//  3. floor <= every logical offset shown to a client: records of a first batch that starts below the source's log start
//     are in the log for a moment, until DeleteRecords has hidden them, but no offset below floor is ever told.
//  4. floor never goes down, and never above the logical end but while the log is empty.
//  5. Negative offsets are Kafka's "unknown" and "none", not positions: they are never made into one, and no position
//     ever becomes one by accident.
//
// One goroutine writes (the partition's owner), any number read; readers take no lock.
type Partition struct {
	run     atomic.Pointer[run]
	changed atomic.Uint64 // when the shift was changed last, by Clock; 0 = never
	physEnd atomic.Int64  // physical log end if known, else MaxInt64
}

type run struct {
	shift int64
	floor int64
}

// New makes a timeline in which physical offset physical is logical offset logical, and no logical offset below floor is
// shown.
func New(physical, logical, floor int64) *Partition {
	p := &Partition{}
	p.physEnd.Store(math.MaxInt64)
	p.Set(logical-physical, floor)
	return p
}

// Shift is logical - physical.
func (t *Partition) Shift() int64 { return t.run.Load().shift }

// Floor is the lowest logical offset that is shown, the source's log start as last seen.
func (t *Partition) Floor() int64 { return t.run.Load().floor }

// Set changes shift and floor; see invariants 2 and 4. Where the shift changes, SetPhysicalEnd comes first, so that no
// reader is sent beyond the end of the log. A mirror that is stopped while its log is empty needs
// Set(floor - physical end, floor), or its first own record would stand below the floor.
func (t *Partition) Set(shift, floor int64) {
	next := &run{shift: shift, floor: floor}
	if old := t.run.Load(); old == nil || old.shift == shift {
		t.run.Store(next)
		return
	}
	// Before and after: whoever has looked at the clock before or in between may have translated by either shift.
	t.changed.Store(clock.Add(1))
	t.run.Store(next)
	t.changed.Store(clock.Add(1))
}

// clock counts the changes of shifts of all timelines.
var clock atomic.Uint64

// Clock is a point in the history of the timelines of this process. It moves whenever the shift of one of them changes.
func Clock() uint64 { return clock.Load() }

// ChangedSince says whether the shift has changed since Clock was clock, so that an offset which was translated then means
// another record now.
func (t *Partition) ChangedSince(clock uint64) bool { return t.changed.Load() > clock }

// SetPhysicalEnd publishes the physical log end that the owner knows of. It may lag behind the log, never lead it.
func (t *Partition) SetPhysicalEnd(p int64) { t.physEnd.Store(p) }

// ToPhysical translates the offset a client wants to read from. Below the floor it is -1, which every broker answers with
// OFFSET_OUT_OF_RANGE. The floor, while the log has not reached it yet, is the physical end; an offset between the floor
// and the first record ever is that record. Beyond the end it is beyond the physical end, and for the broker to refuse.
//
// -1 means something else in DeleteRecords: the high watermark. There an offset below the floor deletes nothing.
func (t *Partition) ToPhysical(logical int64) int64 {
	r := t.run.Load()
	if logical < r.floor || logical < 0 {
		return -1
	}
	p := max(add(logical, -r.shift), 0)
	if end := t.physEnd.Load(); p > end && logical <= r.floor {
		return end
	}
	return p
}

// ToLogical translates a position in the log (log start, high watermark, an offset found by timestamp): never below the
// floor. Negative offsets (unknown) stay as they are.
func (t *Partition) ToLogical(physical int64) int64 {
	if physical < 0 {
		return physical
	}
	r := t.run.Load()
	return max(add(physical, r.shift), r.floor)
}

// BaseToLogical translates the base offset of a batch, in a fetch or produce response; it may lie below the floor. Negative
// offsets (unknown) stay as they are.
func (t *Partition) BaseToLogical(physical int64) int64 {
	if physical < 0 {
		return physical
	}
	return add(physical, t.run.Load().shift)
}

// add adds a shift to an offset >= 0 and stays within 63 bits: a client may ask for any offset.
func add(offset, shift int64) int64 {
	if shift > 0 && offset > math.MaxInt64-shift {
		return math.MaxInt64
	}
	return offset + shift
}
