package replicator

// The logical end of a mirror that clients are told. Where the source ends in a hole (the marker of
// a transaction, an aborted batch, compacted records) the end lies behind the hole, as it does at
// the source, and a client may commit it. Nothing in the destination's log tells of such a hole: no
// batch stands behind it that has a stamp. A klink that is killed and started again would find that
// the mirror ends at its last record, and answer that client OFFSET_OUT_OF_RANGE, upon which
// consumers begin anew, or jump. So the hole is stored in the partition's checkpoint first, and
// shown then. That costs holeDelay, and a write of one record for each partition that ends in a
// hole, only where the hole was not filled with markers.

// shownEnd is the logical end of the mirror that may be shown, -1 = not yet known; w.mu is held.
func (w *worker) shownEnd() int64 {
	end, stored := w.logEnd(), w.kept.Logical
	if w.core.next > end {
		end = max(end, min(w.core.next, stored))
	}
	return end
}

// logEnd is the logical offset after the last record, or after a hole behind it that the log or the
// state has told; w.mu is held.
func (w *worker) logEnd() int64 {
	switch {
	case w.core.next < 0:
		return -1
	case w.core.virgin:
		return max(w.core.doneTail, w.core.floor)
	}
	return w.core.doneTail
}

// publish tells the timeline of the shown end, and asks for a checkpoint where the mirror ends
// behind that; w.mu is held.
func (w *worker) publish() {
	if w.core.state != stateRunning || w.core.flight > 0 || w.m.lost.Load() {
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

// endsInHole is true if there is a hole behind the shown end; w.mu is held.
func (w *worker) endsInHole() bool { return w.core.next > w.shownEnd() }

// holeMet asks for checkpoints of partitions that end in a hole.
func (r *Replicator) holeMet() {
	select {
	case r.holes <- struct{}{}:
	default:
	}
}
