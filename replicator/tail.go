package replicator

import (
	"context"
	"errors"
	"fmt"

	"klink/admin/model"
	"klink/protocol/batch"
	"klink/replicator/core"
)

// tail walks through a log, batch by batch, from a place where both offsets are known.
//
// A batch belongs to the mirror if it counts (batch.Chain) and its stamp does not go back. A stamp
// can go back if owners that saw different records of a compacted source have appended in turn: a
// batch then stands at its place, but begins before the last one ended. Every other batch is void:
// klink appended it twice, or too late, or somebody else wrote it.
type tail struct {
	at    int64 // physical: everything before it has been seen
	next  int64 // logical offset after the last batch of the mirror
	chain batch.Chain
	last  core.EpochEnd // the last batch of the source before next, as far as known
	span  batchSpan     // where the last batch of the mirror is; records = 0: none was seen
	// straight says that, from the start of the timeline on, each physical offset has the next
	// logical one: there is no hole and nothing void.
	straight bool
	void     int64 // how many offsets are void
	foreign  int64 // how many of them have no stamp
	dead     voidSpan
}

// batchSpan is one batch in both kinds of offsets.
type batchSpan struct{ physical, logical, records int64 }

// see takes the next batch of the log. The destination's cleaner may have removed batches before
// it.
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
	t.straight = t.straight && from == t.at && logical == t.next
	t.at = to
	// The place before the first batch is confirmed, or the log begins there.
	if t.chain.See(h) == batch.VerdictVoid || logical < t.next || logical < 0 || logical > maxLogical-(to-from) {
		t.chain.Reject()
		t.seeVoid(to-from, stamped)
		t.dead.see(h, from, to, stamped)
		return nil
	}
	t.dead.passed(h)
	t.next = logical + to - from
	t.span = batchSpan{from, logical, to - from}
	if epoch, ok := sourceEpoch(h); ok {
		t.last = core.EpochEnd{Epoch: epoch, End: t.next}
	}
	return nil
}

// maxLogical is beyond every offset.
const maxLogical = 1<<63 - 2

func (t *tail) seeVoid(offsets int64, stamped bool) {
	t.straight = false
	t.void += offsets
	if !stamped {
		t.foreign += offsets
	}
}

// readTail finds where the mirror ends in the log whose start and end are in e, and completes e.
func (w *worker) readTail(ctx context.Context, e *core.LogEnd) error {
	am := w.m.r.cfg.Control.State().Mirrors[w.m.topic]
	checkpoint, known := w.m.r.cfg.Control.LastCheckpoint(w.m.topic, w.id)
	w.mu.Lock()
	sure, isSure := w.core.Sure, w.core.SureKnown
	empty := isSure && w.core.Empty
	w.mu.Unlock()
	e.Floor = w.tl.Floor()
	e.Last = core.UnknownEpoch
	e.Fresh = !known && (empty || am != nil && am.State == model.MirrorPending || w.neverBegun(e))
	log := w.log()
	if !known && (empty || !isSure) && e.Start < e.End {
		if err := w.onlyFillers(ctx, log, e); err != nil {
			return err
		}
	}
	if e.Fillers || e.Fresh && e.Start == e.End {
		// No record of the mirror was ever in this log.
		e.Next, e.Tail, e.Stored = e.Floor, e.Floor, -1
		if !e.Fillers && w.tl.BaseToLogical(e.End) == e.Floor {
			e.Stored = e.Floor
		}
		return nil
	}
	t := tail{last: e.Last}
	switch {
	case isSure && sure.Physical >= e.Start && sure.Physical <= e.End:
		t.at, t.next = sure.Physical, sure.Logical
		w.mu.Lock()
		t.last, t.straight = w.core.Last, w.core.Straight && sure.Logical <= w.core.DoneTail
		w.mu.Unlock()
	case known && checkpoint.Physical >= e.Start && checkpoint.Physical <= e.End:
		t.at, t.next, t.last, t.straight = checkpoint.Physical, checkpoint.Logical, seenBefore(checkpoint), checkpoint.Straight
	case known && checkpoint.Physical < e.Start:
		// Retention at the destination was faster, or the source's log start has moved. How many of
		// the deleted offsets were void is not known. So they count as records only below the
		// floor, where the source has nothing left either. Above the floor, rather mirror some
		// records twice than others not at all.
		deleted := checkpoint.Logical + e.Start - checkpoint.Physical
		t.at, t.next, t.last = e.Start, max(checkpoint.Logical, min(deleted, e.Floor)), seenBefore(checkpoint)
	default:
		begin, _ := w.tl.Start()
		t.at, t.next, t.straight = e.Start, w.tl.BaseToLogical(e.Start), begin == e.Start
	}
	if t.at > e.Start {
		t.chain.Begin(t.at, t.next)
	}
	from := t
	if err := w.walkTail(ctx, log, e.End, &t); err != nil {
		return err
	}
	w.tellVoid(&t, from.at, e.End)
	if err := w.noteVoid(ctx, &t.dead); err != nil {
		return err
	}
	e.Knocked = t.void > 0 && from.at == from.next
	if t.span.records > 0 {
		w.tl.LearnProbe(t.span.physical, t.span.logical, t.span.records)
	}
	if !t.last.Known() {
		if err := w.lastEpoch(ctx, log, e, &t); err != nil {
			return err
		}
	}
	e.Next, e.Tail, e.Stored, e.Last, e.Straight = t.next, t.next, t.next, t.last, t.straight
	if t.next == from.next && isSure && sure == (core.Place{Physical: from.at, Logical: from.next}) {
		w.mu.Lock()
		e.Tail = min(w.core.DoneTail, e.Next)
		if e.End == w.core.Phys {
			e.Next = max(e.Next, w.core.Next) // clients have already seen this hole as the end
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	if isSure && e.End == w.core.Phys && e.Next == w.core.Next && w.core.Done.End > e.Last.End {
		e.Last = w.core.Done // the core has also seen batches that are not in the log
	}
	w.mu.Unlock()
	return nil
}

// onlyFillers finds out whether the log holds only fillers. Fillers come before every record. So a
// filler at its place at the end of the log proves it, whatever the mirror's state. A filler at the
// end that is not at its place was sent by a process that was killed, and arrived after the next
// process had read where the log ends. Then all batches are checked, as the burn does.
func (w *worker) onlyFillers(ctx context.Context, log *mirrorLog, e *core.LogEnd) error {
	isFiller := false
	err := log.walk(ctx, e.End-1, e.End, func(h batch.Header) error {
		logical, ok := fillerStamp(h)
		isFiller, e.Fillers = ok, ok && logical == h.BaseOffset()
		return nil
	})
	if err == nil && isFiller && !e.Fillers {
		at := e.Start
		err = log.walk(ctx, e.Start, e.End, func(h batch.Header) error {
			_, ok := fillerStamp(h)
			isFiller, at = isFiller && ok, h.NextOffset()
			return nil
		})
		e.Fillers = err == nil && isFiller && at == e.End
	}
	if notOurs(err) {
		return nil
	}
	return err
}

// neverBegun reports whether an empty log without a checkpoint counts as one that never held a
// record of the mirror. A mirror can become ACTIVE before its first record, if its source has no
// record or has an open transaction at its log start. Then the log ends where the timeline begins.
// If the offsets before the first record were burned, and that was not stored yet, the log ends at
// the floor or below. The latter is no proof: the log may have held records that retention deleted,
// all of them, before the first checkpoint. Those are then mirrored once more.
func (w *worker) neverBegun(e *core.LogEnd) bool {
	begin, _ := w.tl.Start()
	return e.Start == e.End && (e.End == begin || e.End <= e.Floor)
}

// sourceEpoch returns the leader epoch in which the source wrote a batch. ok is false for a batch
// without a stamp or whose source did not say, and for markers and fillers, which klink itself
// wrote.
func sourceEpoch(h batch.Header) (epoch int32, ok bool) {
	_, flags, epoch, stamped := batch.ReadStamp(h)
	return epoch, stamped && epoch >= 0 && !h.Control() && flags&batch.FlagFiller == 0
}

// seenBefore returns the last batch of the source before the place of a checkpoint.
func seenBefore(c model.Checkpoint) core.EpochEnd {
	if c.EpochEnd == 0 {
		return core.UnknownEpoch
	}
	return core.EpochEnd{Epoch: c.Epoch, End: c.EpochEnd}
}

// lastEpoch reads the leader epoch of the source from the last batch of the log, as a checkpoint of
// an earlier version of klink does not have it. If the last batch is a marker, the epoch stays
// unknown.
func (w *worker) lastEpoch(ctx context.Context, log *mirrorLog, e *core.LogEnd, t *tail) error {
	if e.Start == e.End {
		return nil
	}
	err := log.walk(ctx, e.End-1, e.End, func(h batch.Header) error {
		logical, _, _, _ := batch.ReadStamp(h)
		end := logical + h.NextOffset() - h.BaseOffset()
		if epoch, ok := sourceEpoch(h); ok && batch.Counts(h) && h.NextOffset() == e.End && end <= t.next {
			t.last = core.EpochEnd{Epoch: epoch, End: end}
		}
		return nil
	})
	if notOurs(err) {
		return nil
	}
	return err
}

// walkTail gives t the batches of the log up to end.
func (w *worker) walkTail(ctx context.Context, log *mirrorLog, end int64, t *tail) error {
	for t.at < end {
		at := t.at
		err := log.walk(ctx, t.at, end, t.see)
		switch {
		case err == nil:
			t.straight = t.straight && t.at == end
			t.at = end // the rest was compacted away
		case errors.Is(err, batch.ErrOldFormat) && t.at == at:
			return w.errOldBatch(at)
		case notOurs(err) && t.at == at:
			t.seeVoid(1, false) // of a format that klink does not write
			t.dead.add(at, at+1, false)
			t.at = at + 1
			t.chain.Begin(t.at, t.next)
			t.chain.Reject()
		case notOurs(err):
		default:
			return err
		}
	}
	return nil
}

// notOurs reports whether an error is for a batch of a format that klink never writes.
func notOurs(err error) bool {
	return errors.Is(err, batch.ErrOldFormat) || errors.Is(err, batch.ErrUnsupported)
}

// tellVoid counts and logs the void offsets between two physical offsets.
func (w *worker) tellVoid(t *tail, from, to int64) {
	if t.void == 0 {
		return
	}
	w.m.counters.VoidOffsets.Add(t.void)
	w.m.counters.ForeignOffsets.Add(t.foreign)
	w.m.r.log.Error("a mirror partition has batches that klink did not write, or wrote twice; clients of klink do not see them",
		"topic", w.m.topic, "partition", w.id, "from", from, "to", to, "offsets", t.void, "of_others", t.foreign)
}
