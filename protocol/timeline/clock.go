package timeline

import "sync/atomic"

// clock counts, over all timelines, how often offsets have changed their meaning.
var clock atomic.Uint64

// Clock returns a point in the history of the timelines of this process. It moves whenever the
// offsets of one of them begin to mean other records: when a log without records was given another
// shift. New runs, and what the timeline learns, change nothing that was true.
func Clock() uint64 { return clock.Load() }

// ChangedSince reports whether that has happened to this timeline since Clock returned clock. An
// offset that was translated then means another record now.
func (t *Partition) ChangedSince(clock uint64) bool { return t.changed.Load() > clock }

// change makes such a change: it calls publish. The caller holds the lock.
func (t *Partition) change(publish func()) {
	// The clock moves before and after: a caller that reads it before or in between may have
	// translated by either shift.
	t.changed.Store(clock.Add(1))
	publish()
	t.changed.Store(clock.Add(1))
}
