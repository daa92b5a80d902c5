package core

import (
	"bytes"
	"errors"
	"fmt"

	"klink/admin/model"
	"klink/protocol/batch"
	"klink/replicator/memory"
)

// truncationsToBelieve is how many fetches in a row have to find the source's end below fetchAt
// before the source counts as truncated. For a moment a new leader may not know how far the log was
// committed.
const truncationsToBelieve = 3

// maxBatch bounds the size that the header of a cut batch can make a fetch ask for. Brokers take no
// larger request (socket.request.max.bytes).
const maxBatch = 100 << 20

// Fetched is what a fetch returned for one partition.
type Fetched struct {
	Records   []byte // batches are stamped in place, and kept
	HighWater int64
	Stable    int64 // last stable offset, -1 = the source does not tell (Fetch below v4)
	LogStart  int64 // -1 = the source does not tell (Fetch below v5)
	Epoch     int32 // the source's leader epoch that the fetch named, -1 = unknown
	Aborted   []batch.AbortedTransaction
	Tools     *FetchTools
	follower  bool // it cannot fail the partition: see follower.go
}

// FetchTools take the batches of a fetch apart; for one goroutine.
type FetchTools struct {
	Recoder batch.Recoder
	aborted batch.Aborted
	// NoAppendTime: the destination refuses batches with the LogAppendTime bit. It gets them
	// without the bit; dated makes them.
	NoAppendTime bool
	dated        batch.Recoder
	// Keep accounts for the bytes of a queued batch. They alias the fetch response, or are the
	// batch's own.
	Keep func(b []byte, alias bool) *memory.Frame
}

// damageToBelieve is how many fetches in a row have to show damage at the same place before the
// source counts as damaged there.
const damageToBelieve = 3

// WantsFetch returns where the next fetch begins; ok is false if there is no fetch to make now.
// limit is the number of queued bytes at which fetching pauses. A partition with an empty queue
// always fetches, so a batch of any size gets through.
func (p *Partition) WantsFetch(limit int) (offset int64, ok bool) {
	if p.State != StateRunning && p.State != StateAnchoring ||
		p.Stopping || p.Fetching || p.Doomed != nil || p.broken != nil || p.Queued >= limit && len(p.Queue) > 0 {
		return 0, false
	}
	return p.FetchAt, true
}

// BeginFetch marks the fetch that wantsFetch offered as sent. The caller passes its result to one
// of fetched, compared, fetchFailed and outOfRange, with the generation returned.
func (p *Partition) BeginFetch() (gen uint32) {
	p.Fetching = true
	return p.Gen
}

// FetchFailed ends a fetch that returned nothing.
func (p *Partition) FetchFailed(gen uint32) {
	if gen == p.Gen {
		p.Fetching = false
	}
}

// Fetched queues the batches of a fetch. Records that read_committed does not show, or that
// compaction has removed, become holes.
func (p *Partition) Fetched(gen uint32, f Fetched) Effects {
	if gen != p.Gen || !p.Fetching {
		return Effects{}
	}
	p.Fetching = false
	p.truncations = 0
	p.checked = f.Epoch
	p.SourceEnd = f.HighWater
	if f.Stable >= 0 {
		p.SourceStable = f.Stable
	}
	if f.LogStart >= 0 {
		p.SourceStart = f.LogStart
	}
	e := Effects{}
	if p.Virgin && p.Align && !p.burned {
		to, known := p.burnTo(f)
		if !known {
			return p.settle(e)
		}
		if !p.burned && p.Align {
			p.drop()
			p.State = stateAligning
			if to == p.Phys {
				return p.Aligned(to)
			}
			e.Burn = to
			return e
		}
	}
	f.Tools.aborted.Reset(f.Aborted)
	at := p.FetchAt
	err := p.walk(f, &e)
	if p.FetchAt > at || f.HighWater <= at {
		p.overtaken = false
	}
	if f.follower && (err != nil || p.Doomed != nil) {
		if e.refused = err; err == nil {
			e.refused = p.Doomed
		}
		p.Doomed = nil
	} else if err != nil {
		if errors.Is(err, batch.ErrCorrupt) && p.corruptions < damageToBelieve-1 {
			p.corruptions++ // perhaps damaged by the network: it is fetched again
		} else if p.Doomed == nil {
			p.Doomed = p.unsupported(err)
		}
	} else {
		p.corruptions = 0
	}
	return p.settle(e)
}

// burnTo returns the physical offset below which a log without records must be burned before the
// first append; known is false as long as it cannot tell. It sets burned if no burn is needed, and
// clears align if a burn is impossible.
func (p *Partition) burnTo(f Fetched) (to int64, known bool) {
	if p.State != StateRunning || p.Stopping {
		return 0, false
	}
	to = p.FetchAt
	if w := batch.Walk(f.Records); w.Next() {
		to = min(to, w.Batch().BaseOffset()) // a log may start within a batch
	} else if w.Err() == nil && p.FetchAt < p.SourceEnd {
		return 0, false // the first batch has yet to be seen
	}
	switch {
	case to == p.Phys && to == p.Next && to == p.stored || to < 0:
		p.burned = true
	case to < p.Phys:
		p.Align, p.noAlign = false, fmt.Sprintf("the log at the destination ended at offset %d before the first record, the source begins at %d", p.Phys, to)
	}
	return to, true
}

// walk takes the batches of a fetch one by one. An error names what cannot be mirrored; the batches
// before it are queued.
func (p *Partition) walk(f Fetched, e *Effects) error {
	records := f.Records
	for p.Doomed == nil {
		w := batch.Walk(records)
		for p.Doomed == nil && w.Next() {
			if err := p.batch(w.Batch(), f, e); err != nil {
				return err
			}
		}
		if err := w.Err(); !errors.Is(err, batch.ErrOldFormat) {
			_, want := w.Cut()
			p.Largest = max(p.Largest, min(want, maxBatch))
			return err
		}
		rest := w.Rest()
		n, next, err := f.Tools.Recoder.Convert(rest, p.FetchAt, func(h batch.Header) error { return p.enqueue(h, -1, false, f, e) })
		if err != nil {
			return err
		}
		if n == 0 {
			p.Largest = max(p.Largest, min(2*len(rest), maxBatch)) // one message, and cut
			return nil
		}
		p.hole(next)
		records = rest[n:]
	}
	return nil
}

// batch queues what is to be mirrored of one batch of the source.
func (p *Partition) batch(b batch.Header, f Fetched, e *Effects) error {
	p.Largest = max(p.Largest, len(b))
	kind, err := batch.Classify(b)
	if err != nil {
		return err
	}
	drop, err := f.Tools.aborted.Drop(b)
	end, epoch := b.NextOffset(), f.epochOf(b.LeaderEpoch())
	if err != nil || end <= p.FetchAt {
		return err // responses have whole batches, which may begin, or even end, before fetchAt
	}
	if !drop && kind != batch.Control {
		alias := kind == batch.Data
		err := f.Tools.Recoder.Runs(b, p.FetchAt, func(h batch.Header) error { return p.enqueue(h, epoch, alias, f, e) })
		if err != nil || p.Doomed != nil {
			return err
		}
	}
	p.hole(end)
	p.note(epoch, end)
	return nil
}

// enqueue stamps and queues one dense batch. epoch is the leader epoch in which the source wrote
// it, -1 = unknown. A batch that shows that the source was truncated dooms the partition instead.
func (p *Partition) enqueue(b batch.Header, epoch int32, alias bool, f Fetched, e *Effects) error {
	base := b.BaseOffset()
	// The batch that holds the source's log start comes whole, and is appended whole, even if a
	// source that was killed has since forgotten that its log began there.
	if !p.Virgin && (base < p.Tail || base < p.FetchAt && base >= p.SourceStart && !p.overtaken) {
		p.Doomed = Failf(model.ErrUnexpectedTruncation,
			"%s: the source now has one batch of offsets %d to %d, but klink has mirrored everything before offset %d: the source's log was truncated and rewritten; "+whatToDo,
			p.Name, base, b.NextOffset()-1, p.Tail)
		return nil
	}
	if p.Doomed != nil {
		return nil
	}
	if err := batch.Stamp(b, base, epoch); err != nil {
		return err
	}
	if f.Tools.NoAppendTime && b.LogAppendTime() {
		var err error
		if b, err = f.Tools.dated.WithoutAppendTime(b); err != nil {
			return err
		}
		alias = false
	}
	if p.Virgin && !p.Align {
		if a := p.begin(base, f.LogStart); a != nil {
			e.Anchor = a
		}
	}
	p.Virgin = false
	p.fill(base)
	if !alias {
		b = bytes.Clone(b)
	}
	i := Item{Bytes: b, Base: base, Records: b.Count(), Seen: p.Seen, Frame: f.Tools.Keep(b, alias)}
	p.push(i)
	p.Queued += len(i.Bytes)
	p.Tail, p.FetchAt, p.holeLen = i.End(), i.End(), 0
	p.note(epoch, i.End())
	return nil
}

// hole notes that the source has no records from fetchAt up to the offset to.
func (p *Partition) hole(to int64) {
	if to > p.FetchAt {
		p.FetchAt = to
		p.fill(to)
	}
}

// fill queues markers for the offsets between the last item and to, if holes are filled.
func (p *Partition) fill(to int64) {
	from := p.Tail
	if !p.Align || to <= from {
		return
	}
	if p.holeLen += to - from; p.holeLen > MaxHoleMarkers {
		p.Align, p.noAlign = false, fmt.Sprintf("%s: a hole of more than %d offsets ends at source offset %d; klink does not fill so many with markers", AlignHoleTooLarge, MaxHoleMarkers, to)
		return
	}
	p.Virgin, p.Tail = false, to
	if n := len(p.Queue) - 1; n >= p.Flight {
		if last := &p.Queue[n]; last.Markers() && last.End() == from {
			more := min(to-from, MaxRequestMarkers-int64(last.Records))
			last.Records += int32(more)
			last.Seen = p.Seen
			from += more
		}
	}
	for ; from < to; from += MaxRequestMarkers {
		p.push(Item{Base: from, Records: int32(min(to-from, MaxRequestMarkers)), Seen: p.Seen})
	}
}

// begin makes a virgin log begin with the batch at base. It returns nil if the stored timeline
// already begins so.
func (p *Partition) begin(base, logStart int64) *Anchor {
	// The first batch may begin below the source's log start, if records up to its middle were
	// deleted.
	floor := max(p.Floor, logStart)
	// The log ends at the beginning of this batch, not at the floor in its middle. If it ended at
	// the floor, this batch, once it is in the log, would be taken for void.
	p.Sure = Place{Physical: p.Phys, Logical: base}
	if base == p.stored && floor == p.Floor {
		p.Next, p.Tail, p.DoneTail = base, base, base
		return nil
	}
	p.Next, p.stored, p.Floor = base, base, floor
	p.Tail, p.DoneTail = base, base
	p.State = StateAnchoring
	return &Anchor{Physical: p.Phys, Logical: base, Floor: floor}
}

// unsupported returns the failure for a batch that cannot be mirrored.
func (p *Partition) unsupported(err error) *Failure {
	return Failf(model.ErrUnsupportedFormat, "%s: %v; everything before offset %d is mirrored", p.Name, err, p.FetchAt)
}

// OutOfRange handles OFFSET_OUT_OF_RANGE: the source refused fetchAt; its log goes from start to
// end (the high watermark).
func (p *Partition) OutOfRange(gen uint32, start, end int64) Effects {
	none := Effects{}
	if gen != p.Gen || !p.Fetching {
		return none
	}
	p.Fetching = false
	p.SourceStart, p.SourceEnd = start, end
	switch {
	case p.FetchAt < start && p.Virgin && len(p.Queue) == 0:
		p.truncations, p.burned = 0, false
		p.Next, p.stored, p.Floor, p.FetchAt = start, start, start, start
		p.Tail, p.DoneTail = start, start
		p.State = StateAnchoring
		return Effects{Anchor: &Anchor{Physical: p.Phys, Logical: start, Floor: start}}
	case p.FetchAt < start:
		// Retention at the source was faster than the mirror. What it deleted becomes a hole, but
		// is reported.
		e := Effects{Lost: start - max(p.FetchAt, p.Floor)}
		p.FetchAt, p.overtaken = start, true // the first batch will show how much is to be filled
		return p.settle(e)
	case p.FetchAt > end:
		p.truncations++
		if p.truncations < truncationsToBelieve {
			return none
		}
		p.Doomed = Failf(model.ErrUnexpectedTruncation,
			"%s: the mirror ends at offset %d, the source at %d: the source's log was truncated or the topic re-created; "+whatToDo,
			p.Name, p.FetchAt, end)
	default:
		return none
	}
	return p.settle(none)
}

// Follow returns the source's log start, but never more than what the mirror has; ok is false
// unless that is above the floor. The caller must store it as the floor, and then call followed.
func (p *Partition) Follow() (floor int64, ok bool) {
	floor = min(p.SourceStart, p.Next)
	return floor, p.State == StateRunning && !p.Virgin && !p.Stopping && floor > p.Floor
}

// Followed continues after the worker has stored the floor.
func (p *Partition) Followed(floor int64) Effects {
	if p.State != StateRunning || p.Virgin || floor <= p.Floor {
		return Effects{}
	}
	p.Floor = floor
	return Effects{Trim: p.trim()}
}
