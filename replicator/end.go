package replicator

import "klink/replicator/core"

// This file decides which logical end of a mirror clients are shown. If the source ends in a hole
// (the marker of a transaction, an aborted batch, compacted records), the mirror's end lies behind
// the hole, as at the source, and a client may commit it. The destination's log does not show such
// a hole, because no stamped batch stands behind it. A klink that is killed and started again would
// find that the mirror ends at its last record, and would answer that client OFFSET_OUT_OF_RANGE;
// consumers then start over, or jump. So klink first stores the hole in the partition's checkpoint,
// and only then shows it. That costs holeDelay, and a write of one record for each partition that
// ends in a hole, but only if the hole was not filled with markers.

// shownEnd returns the logical end of the mirror that clients may be shown, -1 = not yet known;
// w.mu is held.
func (w *worker) shownEnd() int64 {
	end, stored := w.logEnd(), w.kept.Logical
	if w.core.Next > end {
		end = max(end, min(w.core.Next, stored))
	}
	return end
}

// logEnd returns the logical offset after the last record, or after a hole behind it that the log
// or the state shows; w.mu is held.
func (w *worker) logEnd() int64 {
	switch {
	case w.core.Next < 0:
		return -1
	case w.core.Virgin:
		return max(w.core.DoneTail, w.core.Floor)
	}
	return w.core.DoneTail
}

// publish gives the shown end to the timeline, and asks for a checkpoint if the mirror ends behind
// that; w.mu is held.
func (w *worker) publish() {
	if w.core.State != core.StateRunning || w.core.Flight > 0 || w.m.lost.Load() {
		return
	}
	end := w.shownEnd()
	if end != w.published {
		w.published = end
		w.tl.SetLogicalEnd(end)
	}
	if w.endsInHole() {
		w.m.r.holeMet()
	}
}

// endsInHole reports whether there is a hole behind the shown end; w.mu is held.
func (w *worker) endsInHole() bool { return w.core.Next > w.shownEnd() }

// holeMet asks for checkpoints of partitions that end in a hole.
func (r *Replicator) holeMet() {
	select {
	case r.holes <- struct{}{}:
	default:
	}
}
