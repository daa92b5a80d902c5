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
//
// One goroutine writes (the partition's owner), any number read; readers take no lock.
type Partition struct {
	run     atomic.Pointer[run]
	physEnd atomic.Int64 // physical log end if known, else MaxInt64
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
	p.run.Store(&run{shift: logical - physical, floor: floor})
	return p
}

// Shift is logical - physical.
func (t *Partition) Shift() int64 { return t.run.Load().shift }

// Floor is the lowest logical offset that is shown, the source's log start as last seen.
func (t *Partition) Floor() int64 { return t.run.Load().floor }

// Set changes shift and floor; see invariant 2.
func (t *Partition) Set(shift, floor int64) { t.run.Store(&run{shift: shift, floor: floor}) }

// SetPhysicalEnd publishes the physical log end that the owner knows of.
func (t *Partition) SetPhysicalEnd(p int64) { t.physEnd.Store(p) }

// ToPhysical translates the offset a client asks for. Below the floor it is -1, which every broker answers with
// OFFSET_OUT_OF_RANGE. An offset up to the floor that the log has not reached yet is the physical end.
func (t *Partition) ToPhysical(logical int64) int64 {
	r := t.run.Load()
	if logical < r.floor {
		return -1
	}
	p := logical - r.shift
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
	return max(physical+r.shift, r.floor)
}

// BaseToLogical translates the base offset of a batch, which may lie below the floor.
func (t *Partition) BaseToLogical(physical int64) int64 { return physical + t.run.Load().shift }
