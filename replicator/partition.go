package replicator

import (
	"klink/admin"
)

// state is where a partition is in its life.
type state uint8

const (
	// stateResuming: where the destination's log ends is being read; nothing is fetched or appended.
	stateResuming state = iota
	// stateRunning: batches are fetched and appended.
	stateRunning
	// stateAnchoring: as running, but a new start of the timeline is being stored, and nothing is appended before it is.
	stateAnchoring
	// stateStopped and stateFailed: nothing is in flight and nothing will be appended, ever.
	stateStopped
	stateFailed
)

func (s state) String() string {
	return [...]string{"resuming", "running", "anchoring", "stopped", "failed"}[s]
}

// effects is what the owner of a partition has to do after an input. Several can be asked for at once.
type effects struct {
	// resume: read the end of the destination's log and call resumed. lingering says that a request whose result is unknown
	// may still be on its way to the broker, so that a log without its batch has to be read twice, some time apart.
	resume, lingering bool
	// anchor: store this start of the timeline, then call anchored.
	anchor *anchor
	// ready: take has a batch.
	ready bool
	// trim: delete the destination's records below this physical offset; -1 = none.
	trim int64
	// ended: the state became stateStopped or stateFailed.
	ended bool
}

// anchor says that physical offset physical is logical offset logical, and that nothing below floor is shown.
type anchor struct{ physical, logical, floor int64 }

// partition is the deterministic core of one mirror partition: inputs are its methods, outputs are their effects.
//
// Invariants:
//  1. At most one batch is in flight, and the queue continues it without a gap: each batch begins where the one before it
//     ends, the first one at next.
//  2. next and phys, the end of the mirror in both kinds of offsets, move only by an append confirmed at phys, or by
//     reading the destination's log. After an unknown result they are read, never guessed.
//  3. next - phys is the shift of the timeline, and changes only while virgin, by an anchor that is stored before the
//     first append after it.
//  4. Nothing is skipped: a batch begins at next or later than everything fetched before it, or the partition fails with a
//     name for what was met. The batches before it are still appended.
//  5. Once stopped or failed nothing is in flight, the result of every append is known or was given up by abandon, and take
//     gives nothing more.
//  6. The result of a fetch counts only if its generation is current: whatever drops the queue begins a new one.
type partition struct {
	name string // topic-partition, for messages

	state  state
	next   int64 // logical offset of the next append
	phys   int64 // physical offset of the next append
	virgin bool  // no record of the mirror was ever in the log
	floor  int64 // lowest logical offset that is shown
	start  int64 // physical log start at the destination, as far as known

	queue    []item // [0] is in flight if inFlight
	inFlight bool
	queued   int // bytes in queue
	fetchAt  int64
	fetching bool
	gen      uint32
	largest  int // bytes of the largest batch met: a fetch that asks for less may bring nothing

	stopping  bool
	abandoned bool
	unsettled bool     // a result is unknown since the last resume, here or of a former process: stop awaits the resume
	doomed    *failure // met behind the queue; fails once the queue is appended
	failed    *failure // with stateFailed

	sourceStart int64 // log start, high watermark as last seen; -1 = unknown
	sourceEnd   int64
	truncations int // fetches in a row that found the source's end below fetchAt

	release func(item) // gives the bytes of a batch back
}

func newPartition(name string, release func(item)) partition {
	return partition{name: name, sourceStart: -1, sourceEnd: -1, next: -1, phys: -1, release: release}
}

// logEnd is what was read at the destination.
type logEnd struct {
	start, end int64 // physical log start and end
	last       *lastBatch
	// fresh says that the mirror has not become active yet: an empty log that does not begin at 0 held records only before
	// it was a mirror's.
	fresh bool
	// The partition's timeline at the time of the reading.
	shift, floor int64
}

// lastBatch is the last batch of a log that is not empty.
type lastBatch struct {
	base, end int64 // physical
	stamped   bool
	logical   int64 // its stamp
}

// resumed takes what the destination's log says.
func (p *partition) resumed(e logEnd) effects {
	if p.state != stateResuming {
		return effects{trim: -1}
	}
	next := e.end + e.shift
	if e.end > e.start {
		if f := p.checkLast(e); f != nil {
			return p.fail(f)
		}
	}
	p.state, p.unsettled = stateRunning, false
	p.next, p.phys, p.start, p.floor = next, e.end, e.start, e.floor
	p.virgin = e.end == e.start && (e.end == 0 || e.fresh) && next <= e.floor
	p.fetchAt = next
	if p.virgin {
		p.fetchAt = e.floor
	}
	if p.stopping {
		return p.settle(effects{trim: -1})
	}
	return effects{trim: p.trim()}
}

// checkLast checks that klink wrote the last batch of the log, where the timeline says.
func (p *partition) checkLast(e logEnd) *failure {
	last := e.last
	switch {
	case last == nil || !last.stamped:
		return failf(admin.ErrForeignWrite,
			"%s: the last batch before offset %d at the destination was not written by klink; delete and re-create the mirror", p.name, e.end)
	case last.end != e.end || last.logical != last.base+e.shift:
		return failf(admin.ErrForeignWrite,
			"%s: the last batch at the destination (offsets %d to %d) holds source offset %d where %d belongs; it was appended twice or by someone else; delete and re-create the mirror",
			p.name, last.base, last.end-1, last.logical, last.base+e.shift)
	}
	return nil
}

// trim is up to where the destination's log must be deleted so that it shows nothing below the floor; -1 = nowhere.
func (p *partition) trim() int64 {
	to := min(p.floor-(p.next-p.phys), p.phys)
	if p.virgin || to <= p.start {
		return -1
	}
	p.start = to
	return to
}

// anchored: the anchor has been stored.
func (p *partition) anchored() effects {
	if p.state != stateAnchoring {
		return effects{trim: -1}
	}
	p.state = stateRunning
	return p.settle(effects{trim: -1})
}

// take moves the next batch into flight; ok is false if there is none, or one is in flight already. The batch is the
// caller's until it calls appended, uncertain or rejected, exactly once.
func (p *partition) take() (i item, ok bool) {
	if p.state != stateRunning || p.inFlight || p.stopping || len(p.queue) == 0 {
		return item{}, false
	}
	p.inFlight = true
	return p.queue[0], true
}

// appended: the batch in flight stands at the physical offset base.
func (p *partition) appended(base int64) effects {
	i := p.pop()
	if base != p.phys {
		return p.fail(failf(admin.ErrForeignWrite,
			"%s: source offset %d was appended at destination offset %d where %d was expected: somebody else wrote to the mirror; delete and re-create it",
			p.name, i.base, base, p.phys))
	}
	p.next, p.phys = i.end(), base+int64(i.records)
	return p.settle(effects{trim: p.trim()})
}

// uncertain: whether the batch in flight was or will be appended is not known. With lingering its request may still be
// on its way to the broker.
func (p *partition) uncertain(lingering bool) effects {
	p.pop()
	p.drop()
	if p.abandoned {
		return p.end(stateStopped)
	}
	p.state, p.unsettled = stateResuming, true
	return effects{resume: true, lingering: lingering, trim: -1}
}

// rejected: the batch in flight was not appended, and never can be.
func (p *partition) rejected(f *failure) effects {
	p.pop()
	return p.fail(f)
}

// stop asks for the end. The effect ended may come at once or after the append in flight.
func (p *partition) stop() effects {
	p.stopping = true
	p.drop()
	return p.settle(effects{trim: -1})
}

// abandon is stop for a log that is no longer the mirror's: what is in flight is awaited, but not settled.
func (p *partition) abandon() effects {
	p.abandoned = true
	if !p.inFlight {
		p.stopping = true
		return p.end(stateStopped)
	}
	return p.stop()
}

// fail ends with a failure; nothing is in flight.
func (p *partition) fail(f *failure) effects {
	p.failed = f
	return p.end(stateFailed)
}

// settle finds what is next when an append or an anchor is done, or a stop is asked for.
func (p *partition) settle(e effects) effects {
	switch {
	case p.ended() || p.inFlight || p.unsettled || p.state == stateAnchoring:
	case p.stopping && p.state == stateRunning && p.next < p.floor:
		// The log is empty and was to begin below the floor. The first record of the topic's own must not stand there.
		p.next, p.state = p.floor, stateAnchoring
		e.anchor = &anchor{physical: p.phys, logical: p.floor, floor: p.floor}
	case p.stopping:
		e.ended = p.end(stateStopped).ended
	case p.state == stateRunning && len(p.queue) > 0:
		e.ready = true
	case p.state == stateRunning && p.doomed != nil:
		e.ended = p.fail(p.doomed).ended
	}
	return e
}

func (p *partition) ended() bool { return p.state == stateStopped || p.state == stateFailed }

func (p *partition) end(s state) effects {
	if p.ended() {
		return effects{trim: -1}
	}
	p.state, p.unsettled = s, false
	p.drop()
	return effects{ended: true, trim: -1}
}

// pop takes the batch in flight out of the queue.
func (p *partition) pop() item {
	i := p.queue[0]
	p.inFlight = false
	p.queued -= len(i.bytes)
	p.queue[0] = item{}
	p.queue = p.queue[1:]
	p.release(i)
	return i
}

// drop forgets what is queued but not in flight, and what is being fetched. It will be fetched again.
func (p *partition) drop() {
	keep := 0
	if p.inFlight {
		keep = 1
	}
	for _, i := range p.queue[keep:] {
		p.queued -= len(i.bytes)
		p.release(i)
	}
	clear(p.queue[keep:])
	p.queue = p.queue[:keep]
	p.gen++
	p.fetching = false
	p.truncations = 0
	p.fetchAt = p.next
	if keep == 1 {
		p.fetchAt = p.queue[0].end()
	}
	p.doomed = nil
}
