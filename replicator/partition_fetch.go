package replicator

import (
	"klink/admin"
	"klink/protocol/batch"
)

// truncationsToBelieve is how many fetches in a row have to find the source's end below the position before the source
// counts as truncated: a new leader may for a moment not know how far the log was committed.
const truncationsToBelieve = 3

// maxBatch bounds what is asked for on the word of a cut batch: brokers take no larger request (socket.request.max.bytes).
const maxBatch = 100 << 20

// fetched is what a fetch brought for one partition.
type fetched struct {
	records   []byte // is stamped in place, and kept
	highWater int64
	logStart  int64 // -1 = the source does not tell (Fetch below v5)
	epoch     int32 // the source's leader epoch, -1 = unknown
	frame     *frame
}

// wantsFetch says where the next fetch begins and which generation it is of; ok is false if there is none to make now.
// limit is how many bytes may be queued before fetching pauses. An empty queue always fetches, so a batch of any size gets
// through.
func (p *partition) wantsFetch(limit int) (offset int64, ok bool) {
	if p.state != stateRunning && p.state != stateAnchoring ||
		p.stopping || p.fetching || p.doomed != nil || p.queued >= limit && len(p.queue) > 0 {
		return 0, false
	}
	return p.fetchAt, true
}

// beginFetch marks the fetch that wantsFetch offered as sent. Its result goes to one of fetched, fetchFailed and outOfRange
// with the generation returned.
func (p *partition) beginFetch() (gen uint32) {
	p.fetching = true
	return p.gen
}

// fetchFailed: the fetch brought nothing.
func (p *partition) fetchFailed(gen uint32) {
	if gen == p.gen {
		p.fetching = false
	}
}

// fetched queues the batches of a fetch. keep is called for each batch that is queued.
func (p *partition) fetched(gen uint32, f fetched, keep func(*frame)) effects {
	if gen != p.gen || !p.fetching {
		return effects{trim: -1}
	}
	p.fetching = false
	p.truncations = 0
	p.sourceEnd = f.highWater
	if f.logStart >= 0 {
		p.sourceStart = f.logStart
	}
	e := effects{trim: -1}
	w := batch.Walk(f.records)
	for p.doomed == nil && w.Next() {
		b := w.Batch()
		p.largest = max(p.largest, len(b))
		if b.LastOffsetDelta() >= 0 && b.BaseOffset() < p.fetchAt && b.NextOffset() <= p.fetchAt {
			continue // the source answers with whole batches, and so with ones from before the position
		}
		if a := p.enqueue(b, f, keep); a != nil {
			e.anchor = a
		}
	}
	if err := w.Err(); err != nil && p.doomed == nil {
		p.doomed = p.unsupported(err)
	}
	_, want := w.Cut()
	p.largest = max(p.largest, min(want, maxBatch))
	return p.settle(e)
}

// enqueue checks, stamps and queues one batch, or dooms the partition.
func (p *partition) enqueue(b batch.Header, f fetched, keep func(*frame)) (a *anchor) {
	if err := batch.Check(b); err != nil {
		p.doomed = p.unsupported(err)
		return nil
	}
	base := b.BaseOffset()
	switch {
	case p.virgin:
		a = p.begin(base, f.logStart)
	case base > p.fetchAt:
		p.doomed = failf(admin.ErrUnsupportedFormat,
			"%s: the source has no records at offsets %d to %d (compaction or transactions), which is not supported yet; all before is mirrored",
			p.name, p.fetchAt, base-1)
		return nil
	case base < p.fetchAt:
		p.doomed = failf(admin.ErrUnexpectedTruncation,
			"%s: the source now has one batch of offsets %d to %d where another ended at %d: its log was truncated and written again; delete and re-create the mirror",
			p.name, base, b.NextOffset()-1, p.fetchAt-1)
		return nil
	}
	i := item{bytes: b, base: base, records: b.Count(), maxTime: b.MaxTimestamp(), frame: f.frame}
	if err := batch.Stamp(b, base, max(f.epoch, b.LeaderEpoch())); err != nil {
		p.doomed = p.unsupported(err)
		return nil
	}
	keep(f.frame)
	p.queue = append(p.queue, i)
	p.queued += len(i.bytes)
	p.fetchAt = i.end()
	return a
}

// begin makes a virgin log begin with the batch at base. The anchor is nil if the timeline says so already.
func (p *partition) begin(base, logStart int64) *anchor {
	p.virgin = false
	if logStart < 0 {
		logStart = p.floor
	}
	// A first batch may begin below the source's log start, if records were deleted up to its middle. If it begins above,
	// nothing is there to be shown before it.
	floor := max(base, logStart)
	if base == p.next && floor == p.floor {
		return nil
	}
	p.next, p.floor = base, floor
	p.state = stateAnchoring
	return &anchor{physical: p.phys, logical: base, floor: floor}
}

// unsupported names a batch that cannot be mirrored.
func (p *partition) unsupported(err error) *failure {
	return failf(admin.ErrUnsupportedFormat, "%s: %v; all before offset %d is mirrored", p.name, err, p.fetchAt)
}

// outOfRange: the source refused the position; its log goes from start to end (the high watermark).
func (p *partition) outOfRange(gen uint32, start, end int64) effects {
	none := effects{trim: -1}
	if gen != p.gen || !p.fetching {
		return none
	}
	p.fetching = false
	p.sourceStart, p.sourceEnd = start, end
	switch {
	case p.fetchAt < start && p.virgin && len(p.queue) == 0:
		p.truncations = 0
		p.next, p.floor, p.fetchAt = start, start, start
		p.state = stateAnchoring
		return effects{trim: -1, anchor: &anchor{physical: p.phys, logical: start, floor: start}}
	case p.fetchAt < start:
		p.doomed = failf(admin.ErrSourceRecordsLost,
			"%s: the source deleted its records up to offset %d before those from offset %d were mirrored; delete and re-create the mirror",
			p.name, start-1, p.fetchAt)
	case p.fetchAt > end:
		p.truncations++
		if p.truncations < truncationsToBelieve {
			return none
		}
		p.doomed = failf(admin.ErrUnexpectedTruncation,
			"%s: the mirror ends at offset %d, the source at %d: the source's log was truncated or the topic re-created; delete and re-create the mirror",
			p.name, p.fetchAt, end)
	default:
		return none
	}
	return p.settle(none)
}

// follow moves the floor to where the source's log starts now, never beyond what the mirror has. ok is false if it has not
// moved; else the floor must be stored with the anchor, and then followed be called.
func (p *partition) follow() (a anchor, ok bool) {
	floor := min(p.sourceStart, p.next)
	if p.state != stateRunning || p.virgin || p.stopping || floor <= p.floor {
		return anchor{}, false
	}
	return anchor{physical: p.phys, logical: p.next, floor: floor}, true
}

// followed: the floor has been stored.
func (p *partition) followed(floor int64) effects {
	if p.state != stateRunning || p.virgin || floor <= p.floor {
		return effects{trim: -1}
	}
	p.floor = floor
	return effects{trim: p.trim()}
}
