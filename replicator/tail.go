package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/admin"
	"klink/protocol/batch"
	"klink/protocol/timeline"
)

// tail reads what a log holds behind a place where both offsets are known.
//
// A batch belongs to the mirror if it is stamped with the next logical offset or a higher one. Anything else was written by
// somebody else, or is the second copy of a batch that was appended twice, and has to be hidden: batches are appended one at a
// time, so that no stamp comes early.
type tail struct {
	at     int64            // physical: what is before it has been seen
	next   int64            // logical offset after the last batch of the mirror
	last   epochEnd         // the last batch of the source before next, as far as known
	span   span3            // where the last batch of the mirror is; records = 0: none was seen
	hidden func(int64) bool // is stored as hidden already; what a reader alone has hidden is not
	found  []timeline.Range // to hide; in order, not touching
}

// span3 is one batch in both kinds of offsets.
type span3 struct{ physical, logical, records int64 }

// see takes the next batch of the log. Batches that compaction has removed at the destination are missing.
func (t *tail) see(h batch.Header) error {
	from, to := h.BaseOffset(), h.NextOffset()
	logical, _, _, stamped := batch.ReadStamp(h)
	if to <= max(from, t.at) {
		return fmt.Errorf("%w: offsets %d to %d after %d", batch.ErrMalformed, from, to-1, t.at)
	}
	if from < t.at { // the log may begin in the middle of a batch
		logical += t.at - from
		from = t.at
	}
	t.at = to
	switch {
	case t.hidden(from):
	case stamped && logical >= t.next && logical >= 0 && logical <= maxLogical-(to-from):
		t.next = logical + to - from
		t.span = span3{from, logical, to - from}
		if epoch, ok := sourceEpoch(h); ok {
			t.last = epochEnd{epoch, t.next}
		}
	default:
		t.hide(from, to)
	}
	return nil
}

// maxLogical is beyond every offset.
const maxLogical = 1<<63 - 2

func (t *tail) hide(from, to int64) {
	if n := len(t.found); n > 0 && t.found[n-1].To == from {
		t.found[n-1].To = to
		return
	}
	t.found = append(t.found, timeline.Range{From: from, To: to})
}

// readTail finds where the mirror ends in a log that begins and ends as e says, and stores what has to be hidden.
func (w *worker) readTail(ctx context.Context, e *logEnd) error {
	am := w.m.r.cfg.Control.State().Mirrors[w.m.topic]
	checkpoint, known := w.m.r.cfg.Control.LastCheckpoint(w.m.topic, w.id)
	w.mu.Lock()
	sure, isSure := w.core.sure, w.core.sureKnown
	empty := isSure && w.core.empty
	w.mu.Unlock()
	e.floor = w.tl.Floor()
	e.last = unknownEpoch
	e.fresh = !known && (empty || am != nil && am.State == admin.MirrorPending || w.neverBegun(e))
	log := w.log()
	if !known && (empty || !isSure) && e.start < e.end {
		// Fillers come before every record, so that one at the end of the log tells, whatever the mirror's state.
		if err := log.walk(ctx, e.end-1, e.end, func(h batch.Header) error {
			logical, ok := fillerStamp(h)
			e.fillers = ok && logical == h.BaseOffset()
			return nil
		}); err != nil && !notOurs(err) {
			return err
		}
	}
	if e.fillers || e.fresh && e.start == e.end {
		// No record of the mirror was ever in this log.
		e.next, e.tail, e.stored = e.floor, e.floor, -1
		if !e.fillers && w.tl.BaseToLogical(e.end) == e.floor {
			e.stored = e.floor
		}
		return nil
	}
	// Not what the timeline has: a reader who met a foreign batch first has hidden it there, which is lost with this process.
	stored := w.m.r.cfg.Control.Hidden(w.m.topic, w.id)
	t := tail{hidden: func(physical int64) bool { return contains(stored, physical) }, last: e.last}
	switch {
	case isSure && sure.physical >= e.start && sure.physical <= e.end:
		t.at, t.next = sure.physical, sure.logical
		w.mu.Lock()
		t.last = w.core.last
		w.mu.Unlock()
	case known && checkpoint.Physical >= e.start && checkpoint.Physical <= e.end:
		t.at, t.next, t.last = checkpoint.Physical, checkpoint.Logical, seenBefore(checkpoint)
	case known && checkpoint.Physical < e.start:
		// Retention was faster. What it deleted took at least as many logical offsets as it had records.
		t.at, t.next, t.last = e.start, checkpoint.Logical+w.visible(checkpoint.Physical, e.start), seenBefore(checkpoint)
		if checkpoint.Logical <= e.floor && e.start < e.end {
			// Where the log began in the middle of a source batch, a checkpoint from before that batch was appended names the log
			// start, and the batch began below it: then the sum is too high, and the batch itself would be hidden. A checkpoint
			// beyond the log start was written behind a batch, and the sum holds.
			t.next = min(t.next, e.floor)
		}
	default:
		t.at, t.next = e.start, w.tl.BaseToLogical(e.start)
		if done, err := w.lastOnly(ctx, log, e, &t); err != nil {
			return err
		} else if done {
			e.next, e.tail, e.stored, e.last = t.next, t.next, t.next, t.last
			return nil
		}
	}
	from := t
	if err := w.walkTail(ctx, log, e.end, &t); err != nil {
		return err
	}
	for _, r := range t.found {
		if err := w.hide(ctx, r); err != nil {
			return err
		}
	}
	if t.span.records > 0 {
		w.tl.LearnProbe(t.span.physical, t.span.logical, t.span.records)
	}
	if !t.last.known() {
		if err := w.lastEpoch(ctx, log, e, &t); err != nil {
			return err
		}
	}
	e.next, e.tail, e.stored, e.last = t.next, t.next, t.next, t.last
	if t.next == from.next && isSure && sure == (place{from.at, from.next}) {
		w.mu.Lock()
		e.tail = min(w.core.doneTail, e.next)
		if e.end == w.core.phys {
			e.next = max(e.next, w.core.next) // a hole behind the last record, which was shown already
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	if isSure && e.end == w.core.phys && e.next == w.core.next && w.core.done.end > e.last.end {
		e.last = w.core.done // the log ends as was believed: what was seen of the source is not only what the log has
	}
	w.mu.Unlock()
	return nil
}

// neverBegun says that no record of the mirror can have been in its empty log, of which there is no checkpoint. A mirror becomes
// ACTIVE before its first record is there if its source has none, or has an open transaction at its log start. Then the log
// ends where the timeline begins, or, if what lies before the first record has been burned and nothing has said so yet, at or
// below the floor. The latter is no proof: records may have been there, and retention may have deleted all of them before the
// first checkpoint; then they are mirrored once more.
func (w *worker) neverBegun(e *logEnd) bool {
	begin, _ := w.tl.Start()
	return e.start == e.end && (e.end == begin || e.end <= e.floor)
}

// sourceEpoch is the leader epoch in which the source wrote a batch; ok is false for one without a stamp, and for markers and
// fillers, which are klink's own.
func sourceEpoch(h batch.Header) (epoch int32, ok bool) {
	_, flags, epoch, stamped := batch.ReadStamp(h)
	return epoch, stamped && !h.Control() && flags&batch.FlagFiller == 0
}

// contains says whether an offset is in one of the ranges.
func contains(rs []timeline.Range, at int64) bool {
	return slices.ContainsFunc(rs, func(r timeline.Range) bool { return r.From <= at && at < r.To })
}

// seenBefore is the last batch of the source before the place of a checkpoint.
func seenBefore(c admin.Checkpoint) epochEnd {
	if c.EpochEnd == 0 {
		return unknownEpoch
	}
	return epochEnd{c.Epoch, c.EpochEnd}
}

// lastEpoch looks at the last batch of the log for the leader epoch that the source wrote it in: a checkpoint of an earlier
// version does not tell. A marker does not tell, either; then nothing is known.
func (w *worker) lastEpoch(ctx context.Context, log *mirrorLog, e *logEnd, t *tail) error {
	if e.start == e.end {
		return nil
	}
	err := log.walk(ctx, e.end-1, e.end, func(h batch.Header) error {
		logical, _, _, _ := batch.ReadStamp(h)
		end := logical + h.NextOffset() - h.BaseOffset()
		if epoch, ok := sourceEpoch(h); ok && !t.hidden(h.BaseOffset()) && h.NextOffset() == e.end && end <= t.next {
			t.last = epochEnd{epoch, end}
		}
		return nil
	})
	if notOurs(err) {
		return nil
	}
	return err
}

// walkTail lets t see the log up to end.
func (w *worker) walkTail(ctx context.Context, log *mirrorLog, end int64, t *tail) error {
	for t.at < end {
		at := t.at
		err := log.walk(ctx, t.at, end, t.see)
		switch {
		case err == nil:
			t.at = end // what is missing was compacted
		case notOurs(err) && t.at == at:
			t.hide(at, at+1) // of a format that klink does not write
			t.at = at + 1
		case notOurs(err):
		default:
			return err
		}
	}
	return nil
}

// notOurs says that a log holds a batch of a format that klink never writes.
func notOurs(err error) bool {
	return errors.Is(err, batch.ErrOldFormat) || errors.Is(err, batch.ErrUnsupported)
}

// lastOnly looks at the last batch alone, where no checkpoint is known: if it stands where the start of the timeline says,
// nothing lies between that is not the mirror's.
func (w *worker) lastOnly(ctx context.Context, log *mirrorLog, e *logEnd, t *tail) (done bool, err error) {
	if e.start == e.end || len(w.tl.Hidden()) > 0 {
		return false, nil
	}
	shift := t.next - t.at
	err = log.walk(ctx, e.end-1, e.end, func(h batch.Header) error {
		logical, _, _, stamped := batch.ReadStamp(h)
		if stamped && h.NextOffset() == e.end && logical-h.BaseOffset() == shift {
			done = true
			t.next = e.end + shift
			if epoch, ok := sourceEpoch(h); ok {
				t.last = epochEnd{epoch, t.next}
			}
		}
		return nil
	})
	if notOurs(err) {
		return false, nil
	}
	return done, err
}

// visible is how many of the physical offsets [from, to) are not hidden.
func (w *worker) visible(from, to int64) int64 {
	n := to - from
	for _, h := range w.tl.Hidden() {
		n -= max(0, min(h.To, to)-max(h.From, from))
	}
	return n
}

// hide stores that a range is not to be shown; durable, and effective, when it returns nil.
func (w *worker) hide(ctx context.Context, r timeline.Range) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := w.m.r.cfg.Control.Hide(ctx, w.m.topic, w.id, r.From, r.To); err != nil {
		return fmt.Errorf("storing that offsets %d to %d of %s-%d are hidden: %w", r.From, r.To-1, w.m.topic, w.id, err)
	}
	w.m.counters.HiddenOffsets.Add(r.To - r.From)
	w.m.r.log.Error("a mirror partition has batches that klink did not write, or wrote twice; they are hidden from those who read through klink",
		"topic", w.m.topic, "partition", w.id, "from", r.From, "to", r.To)
	return nil
}
