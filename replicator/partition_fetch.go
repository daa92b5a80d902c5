package replicator

import (
	"bytes"
	"errors"
	"fmt"

	"klink/admin"
	"klink/protocol/batch"
)

// truncationsToBelieve is how many fetches in a row have to find the source's end below fetchAt
// before the source counts as truncated. For a moment a new leader may not know how far the log was
// committed.
const truncationsToBelieve = 3

// maxBatch bounds the size that the header of a cut batch can make a fetch ask for. Brokers take no
// larger request (socket.request.max.bytes).
const maxBatch = 100 << 20

// fetched is what a fetch returned for one partition.
type fetched struct {
	records   []byte // batches are stamped in place, and kept
	highWater int64
	stable    int64 // last stable offset, -1 = the source does not tell (Fetch below v4)
	logStart  int64 // -1 = the source does not tell (Fetch below v5)
	epoch     int32 // the source's leader epoch that the fetch named, -1 = unknown
	aborted   []batch.AbortedTransaction
	tools     *fetchTools
}

// fetchTools take the batches of a fetch apart; for one goroutine.
type fetchTools struct {
	recoder batch.Recoder
	aborted batch.Aborted
	// noAppendTime: the destination refuses batches with the LogAppendTime bit. It gets them
	// without the bit; dated makes them.
	noAppendTime bool
	dated        batch.Recoder
	// keep accounts for the bytes of a queued batch. They alias the fetch response, or are the
	// batch's own.
	keep func(b []byte, alias bool) *frame
}

// damageToBelieve is how many fetches in a row have to show damage at the same place before the
// source counts as damaged there.
const damageToBelieve = 3

// wantsFetch returns where the next fetch begins; ok is false if there is no fetch to make now.
// limit is the number of queued bytes at which fetching pauses. A partition with an empty queue
// always fetches, so a batch of any size gets through.
func (p *partition) wantsFetch(limit int) (offset int64, ok bool) {
	if p.state != stateRunning && p.state != stateAnchoring ||
		p.stopping || p.fetching || p.doomed != nil || p.broken != nil || p.queued >= limit && len(p.queue) > 0 {
		return 0, false
	}
	return p.fetchAt, true
}

// beginFetch marks the fetch that wantsFetch offered as sent. The caller passes its result to one
// of fetched, compared, fetchFailed and outOfRange, with the generation returned.
func (p *partition) beginFetch() (gen uint32) {
	p.fetching = true
	return p.gen
}

// fetchFailed ends a fetch that returned nothing.
func (p *partition) fetchFailed(gen uint32) {
	if gen == p.gen {
		p.fetching = false
	}
}

// fetched queues the batches of a fetch. Records that read_committed does not show, or that
// compaction has removed, become holes.
func (p *partition) fetched(gen uint32, f fetched) effects {
	if gen != p.gen || !p.fetching {
		return effects{trim: -1}
	}
	p.fetching = false
	p.truncations = 0
	p.checked = f.epoch
	p.sourceEnd = f.highWater
	if f.stable >= 0 {
		p.sourceStable = f.stable
	}
	if f.logStart >= 0 {
		p.sourceStart = f.logStart
	}
	e := effects{trim: -1}
	if p.virgin && p.align && !p.burned {
		to, known := p.burnTo(f)
		if !known {
			return p.settle(e)
		}
		if !p.burned && p.align {
			p.drop()
			p.state = stateAligning
			if to == p.phys {
				return p.aligned(to)
			}
			e.burn = to
			return e
		}
	}
	f.tools.aborted.Reset(f.aborted)
	at := p.fetchAt
	err := p.walk(f, &e)
	if p.fetchAt > at || f.highWater <= at {
		p.overtaken = false
	}
	if err != nil {
		if errors.Is(err, batch.ErrCorrupt) && p.corruptions < damageToBelieve-1 {
			p.corruptions++ // perhaps damaged by the network: it is fetched again
		} else if p.doomed == nil {
			p.doomed = p.unsupported(err)
		}
	} else {
		p.corruptions = 0
	}
	return p.settle(e)
}

// burnTo returns the physical offset below which a log without records must be burned before the
// first append; known is false as long as it cannot tell. It sets burned if no burn is needed, and
// clears align if a burn is impossible.
func (p *partition) burnTo(f fetched) (to int64, known bool) {
	if p.state != stateRunning || p.stopping {
		return 0, false
	}
	to = p.fetchAt
	if w := batch.Walk(f.records); w.Next() {
		to = min(to, w.Batch().BaseOffset()) // a log may start within a batch
	} else if w.Err() == nil && p.fetchAt < p.sourceEnd {
		return 0, false // the first batch has yet to be seen
	}
	switch {
	case to == p.phys && to == p.next && to == p.stored || to < 0:
		p.burned = true
	case to < p.phys:
		p.align, p.noAlign = false, fmt.Sprintf("the log at the destination ended at offset %d before the first record, the source begins at %d", p.phys, to)
	}
	return to, true
}

// walk takes the batches of a fetch one by one. An error names what cannot be mirrored; the batches
// before it are queued.
func (p *partition) walk(f fetched, e *effects) error {
	records := f.records
	for p.doomed == nil {
		w := batch.Walk(records)
		for p.doomed == nil && w.Next() {
			if err := p.batch(w.Batch(), f, e); err != nil {
				return err
			}
		}
		if err := w.Err(); !errors.Is(err, batch.ErrOldFormat) {
			_, want := w.Cut()
			p.largest = max(p.largest, min(want, maxBatch))
			return err
		}
		rest := w.Rest()
		n, next, err := f.tools.recoder.Convert(rest, p.fetchAt, func(h batch.Header) error { return p.enqueue(h, -1, false, f, e) })
		if err != nil {
			return err
		}
		if n == 0 {
			p.largest = max(p.largest, min(2*len(rest), maxBatch)) // one message, and cut
			return nil
		}
		p.hole(next)
		records = rest[n:]
	}
	return nil
}

// batch queues what is to be mirrored of one batch of the source.
func (p *partition) batch(b batch.Header, f fetched, e *effects) error {
	p.largest = max(p.largest, len(b))
	kind, err := batch.Classify(b)
	if err != nil {
		return err
	}
	drop, err := f.tools.aborted.Drop(b)
	end, epoch := b.NextOffset(), f.epochOf(b.LeaderEpoch())
	if err != nil || end <= p.fetchAt {
		return err // responses have whole batches, which may begin, or even end, before fetchAt
	}
	if !drop && kind != batch.Control {
		alias := kind == batch.Data
		err := f.tools.recoder.Runs(b, p.fetchAt, func(h batch.Header) error { return p.enqueue(h, epoch, alias, f, e) })
		if err != nil || p.doomed != nil {
			return err
		}
	}
	p.hole(end)
	p.note(epoch, end)
	return nil
}

// enqueue stamps and queues one dense batch. epoch is the leader epoch in which the source wrote
// it, -1 = unknown. A batch that shows that the source was truncated dooms the partition instead.
func (p *partition) enqueue(b batch.Header, epoch int32, alias bool, f fetched, e *effects) error {
	base := b.BaseOffset()
	// The batch that holds the source's log start comes whole, and is appended whole, even if a
	// source that was killed has since forgotten that its log began there.
	if !p.virgin && (base < p.tail || base < p.fetchAt && base >= p.sourceStart && !p.overtaken) {
		p.doomed = failf(admin.ErrUnexpectedTruncation,
			"%s: the source now has one batch of offsets %d to %d, but klink has mirrored everything before offset %d: the source's log was truncated and rewritten; "+whatToDo,
			p.name, base, b.NextOffset()-1, p.tail)
		return nil
	}
	if p.doomed != nil {
		return nil
	}
	if err := batch.Stamp(b, base, epoch); err != nil {
		return err
	}
	if f.tools.noAppendTime && b.LogAppendTime() {
		var err error
		if b, err = f.tools.dated.WithoutAppendTime(b); err != nil {
			return err
		}
		alias = false
	}
	if p.virgin && !p.align {
		if a := p.begin(base, f.logStart); a != nil {
			e.anchor = a
		}
	}
	p.virgin = false
	p.fill(base)
	if !alias {
		b = bytes.Clone(b)
	}
	i := item{bytes: b, base: base, records: b.Count(), seen: p.seen, frame: f.tools.keep(b, alias)}
	p.push(i)
	p.queued += len(i.bytes)
	p.tail, p.fetchAt, p.holeLen = i.end(), i.end(), 0
	p.note(epoch, i.end())
	return nil
}

// hole notes that the source has no records from fetchAt up to the offset to.
func (p *partition) hole(to int64) {
	if to > p.fetchAt {
		p.fetchAt = to
		p.fill(to)
	}
}

// fill queues markers for the offsets between the last item and to, if holes are filled.
func (p *partition) fill(to int64) {
	from := p.tail
	if !p.align || to <= from {
		return
	}
	if p.holeLen += to - from; p.holeLen > maxHoleMarkers {
		p.align, p.noAlign = false, fmt.Sprintf("%s: a hole of more than %d offsets ends at source offset %d; klink does not fill so many with markers", alignHoleTooLarge, maxHoleMarkers, to)
		return
	}
	p.virgin, p.tail = false, to
	if n := len(p.queue) - 1; n >= p.flight {
		if last := &p.queue[n]; last.markers() && last.end() == from {
			more := min(to-from, maxRequestMarkers-int64(last.records))
			last.records += int32(more)
			last.seen = p.seen
			from += more
		}
	}
	for ; from < to; from += maxRequestMarkers {
		p.push(item{base: from, records: int32(min(to-from, maxRequestMarkers)), seen: p.seen})
	}
}

// begin makes a virgin log begin with the batch at base. It returns nil if the stored timeline
// already begins so.
func (p *partition) begin(base, logStart int64) *anchor {
	// The first batch may begin below the source's log start, if records up to its middle were
	// deleted.
	floor := max(p.floor, logStart)
	// The log ends at the beginning of this batch, not at the floor in its middle. If it ended at
	// the floor, this batch, once it is in the log, would be taken for void.
	p.sure = place{p.phys, base}
	if base == p.stored && floor == p.floor {
		p.next, p.tail, p.doneTail = base, base, base
		return nil
	}
	p.next, p.stored, p.floor = base, base, floor
	p.tail, p.doneTail = base, base
	p.state = stateAnchoring
	return &anchor{physical: p.phys, logical: base, floor: floor}
}

// unsupported returns the failure for a batch that cannot be mirrored.
func (p *partition) unsupported(err error) *failure {
	return failf(admin.ErrUnsupportedFormat, "%s: %v; everything before offset %d is mirrored", p.name, err, p.fetchAt)
}

// outOfRange handles OFFSET_OUT_OF_RANGE: the source refused fetchAt; its log goes from start to
// end (the high watermark).
func (p *partition) outOfRange(gen uint32, start, end int64) effects {
	none := effects{trim: -1}
	if gen != p.gen || !p.fetching {
		return none
	}
	p.fetching = false
	p.sourceStart, p.sourceEnd = start, end
	switch {
	case p.fetchAt < start && p.virgin && len(p.queue) == 0:
		p.truncations, p.burned = 0, false
		p.next, p.stored, p.floor, p.fetchAt = start, start, start, start
		p.tail, p.doneTail = start, start
		p.state = stateAnchoring
		return effects{trim: -1, anchor: &anchor{physical: p.phys, logical: start, floor: start}}
	case p.fetchAt < start:
		// Retention at the source was faster than the mirror. What it deleted becomes a hole, but
		// is reported.
		e := effects{trim: -1, lost: start - max(p.fetchAt, p.floor)}
		p.fetchAt, p.overtaken = start, true // the first batch will show how much is to be filled
		return p.settle(e)
	case p.fetchAt > end:
		p.truncations++
		if p.truncations < truncationsToBelieve {
			return none
		}
		p.doomed = failf(admin.ErrUnexpectedTruncation,
			"%s: the mirror ends at offset %d, the source at %d: the source's log was truncated or the topic re-created; "+whatToDo,
			p.name, p.fetchAt, end)
	default:
		return none
	}
	return p.settle(none)
}

// follow returns the source's log start, but never more than what the mirror has; ok is false
// unless that is above the floor. The caller must store it as the floor, and then call followed.
func (p *partition) follow() (floor int64, ok bool) {
	floor = min(p.sourceStart, p.next)
	return floor, p.state == stateRunning && !p.virgin && !p.stopping && floor > p.floor
}

// followed continues after the worker has stored the floor.
func (p *partition) followed(floor int64) effects {
	if p.state != stateRunning || p.virgin || floor <= p.floor {
		return effects{trim: -1}
	}
	p.floor = floor
	return effects{trim: p.trim()}
}
