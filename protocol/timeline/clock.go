package timeline

import "sync/atomic"

// clock counts the changes of what offsets mean, of all timelines.
var clock atomic.Uint64

// Clock is a point in the history of the timelines of this process. It moves whenever offsets of
// one of them begin to mean other records than before: a log that had none was given another shift.
// New runs and what is learned change nothing that was true.
func Clock() uint64 { return clock.Load() }

// ChangedSince says whether that has happened to this timeline since Clock was clock, so that an
// offset which was translated then means another record now.
func (t *Partition) ChangedSince(clock uint64) bool { return t.changed.Load() > clock }

// change makes such a change; the lock is held.
func (t *Partition) change(publish func()) {
	// Before and after: whoever has looked at the clock before or in between may have translated by
	// either shift.
	t.changed.Store(clock.Add(1))
	publish()
	t.changed.Store(clock.Add(1))
}
