package replicator

// state is where a partition is in its life.
type state uint8

const (
	// stateResuming: the worker is reading where the destination's log ends. Nothing is fetched or
	// appended.
	stateResuming state = iota
	// stateRunning: batches are fetched and appended.
	stateRunning
	// stateAnchoring: batches are fetched, but nothing is appended until the worker has stored a
	// new start of the timeline.
	stateAnchoring
	// stateAligning: the worker is burning the physical offsets below the first record's. Nothing
	// is fetched or appended.
	stateAligning
	// stateStopped and stateFailed: nothing is in flight and nothing will be appended, ever.
	stateStopped
	stateFailed
)

func (s state) String() string {
	return [...]string{"resuming", "running", "anchoring", "aligning", "stopped", "failed"}[s]
}

// effects lists what the worker has to do after an input. Several effects can be set at once.
type effects struct {
	// resume: read where the destination's log ends, then call resumed. lingering says that a
	// request without a result may still be on its way to the broker. If the log lacks its batch,
	// the log must be read again some time later.
	resume, lingering bool
	// anchor: store this start of the timeline, then call anchored.
	anchor *anchor
	// ready: take has an append.
	ready bool
	// trim: delete the destination's records below this logical offset; -1 = none.
	trim int64
	// burn: use up the physical offsets below this one, then call aligned or notAligned; 0 = no.
	burn int64
	// shifted: the log has its first record whose physical and logical offsets differ; nil = no.
	shifted *shifted
	// lost: the number of offsets that the source deleted before they were mirrored.
	lost int64
	// ended: the state became stateStopped or stateFailed.
	ended bool
}

// anchor is a start of the timeline: the physical offset physical is the logical offset logical,
// and clients see nothing below floor.
type anchor struct{ physical, logical, floor int64 }

// shifted names the first logical offset whose physical offset differs, and the reason, as a text
// for people.
type shifted struct {
	began  int64
	reason string
}

// place is a position in the log: the log up to physical holds the source's records up to logical.
type place struct{ physical, logical int64 }

// partition is the deterministic core of one mirror partition: inputs are its methods, outputs are
// their effects.
//
// Invariants:
//  1. The items in flight are the first ones of the queue. They are one append, or a window of
//     several (window.go). An append is one item, or a few that are joined to one batch (join.go).
//     A window is settled as a whole. The queue is in order and begins at next or above. Offsets
//     between two items, or from the last item up to fetchAt, are a hole of the source: transaction
//     markers, aborted or compacted records. No hole is within a window.
//  2. next and phys are the end of the mirror, as a logical and as a physical offset. They move
//     only when an append is confirmed at phys, when markers were written, at a hole behind the
//     last record, or when the destination's log was read. After an unknown result, or an append at
//     another offset than phys, the log is read; the end is never guessed.
//  3. sure is the last place that an append or the log has confirmed. A broker does not say at
//     which offset it wrote markers; the next append shows it. Until then sure stays before them.
//  4. next - phys is the shift. It grows at holes that are not filled with markers. With align it
//     is 0.
//  5. Only holes are skipped. A batch begins at fetchAt or later, or is a run of a batch that was
//     appended in part (Recoder.Runs leaves out whole runs). Any other batch fails the partition
//     with a named error. The items before it are still appended.
//  6. A partition that is stopped or has failed has nothing in flight, and take returns nothing.
//     The result of every append is known, or abandon gave it up.
//  7. The result of a fetch counts only if gen is still the one it began with. Dropping the queue
//     increments gen.
type partition struct {
	name string // topic-partition, for messages

	state   state
	next    int64 // logical offset of the next append
	phys    int64 // physical offset of the next append
	virgin  bool  // no record of the mirror was ever in the log, and none is queued
	empty   bool  // no record of the mirror was ever in the log, as far as known
	stored  int64 // while virgin: the logical offset that the stored timeline has for phys
	floor   int64 // lowest logical offset that is shown
	trimmed int64 // the offset that the effect trim had last

	epoch     int32 // the destination's leader epoch when the log was read, -1 = unknown
	sure      place
	sureKnown bool
	// tail is the logical offset after the last item that is queued or appended; doneTail is the
	// one after the last item that was appended. The next item begins at tail or later.
	tail, doneTail int64
	// seen, done and last are the last batches of the source before fetchAt, next and sure. checked
	// is the leader epoch of the source under which its log is known to have seen: see
	// truncation.go.
	seen, done, last epochEnd
	checked          int32

	align     bool   // holes are filled with markers, so that phys = next
	burned    bool   // a virgin log needs no burn (any more)
	isShifted bool   // some record's physical and logical offsets differ
	straight  bool   // from the timeline's start on there is no hole and nothing void
	noAlign   string // why align is false, for people
	holeLen   int64  // offsets of the hole before fetchAt that are filled with markers
	realigned bool   // align may have changed: the log is read once nothing is in flight

	queue    []item // a part of items
	items    []item // the backing array of queue
	flight   int    // how many items at the beginning of queue are in flight
	begun    int    // how many of them belong to the appends before the last one
	ahead    int64  // and how many records these have
	waited   bool   // queued items have waited for an append in flight, and may be joined
	queued   int    // bytes in queue
	fetchAt  int64
	fetching bool
	gen      uint32
	largest  int // bytes of the largest batch seen: a fetch that asks for less may bring nothing

	stopping  bool
	abandoned bool
	unsettled bool     // an append, here or of a former process, has no result: stop needs resumed
	doomed    *failure // found behind the queue: fails the partition once that is appended
	broken    *failure // the destination rewrites batches: no appends; fails once none is in flight
	failed    *failure // with stateFailed

	sourceStart  int64 // log start, last stable offset, high watermark as last seen; -1 = unknown
	sourceStable int64
	sourceEnd    int64
	// overtaken: the source deleted records before they were mirrored, so fetchAt is its log start,
	// and no batch has been seen there yet. The first batch may begin below fetchAt, and is
	// appended whole. Until then the mirror's end does not move to the end of the hole.
	overtaken   bool
	truncations int // fetches in a row that found the source's end below fetchAt
	corruptions int // fetches in a row with damage at the same place

	release func(item) // frees the bytes of a batch
}

func newPartition(name string, release func(item)) partition {
	return partition{name: name, sourceStart: -1, sourceStable: -1, sourceEnd: -1, next: -1, phys: -1, trimmed: -1, seen: unknownEpoch, done: unknownEpoch, last: unknownEpoch, checked: neverChecked, release: release}
}

// logEnd is what the worker has read from the destination's log.
type logEnd struct {
	start, end int64    // physical log start and end
	epoch      int32    // the leader epoch at that time, -1 = the broker has none
	next       int64    // logical end: after the last record, or after a known hole behind it
	tail       int64    // logical offset after the last record or marker; at most next
	last       epochEnd // the last batch of the source before next, as far as known
	// fresh says of a log that is empty, or has only fillers, that it never held a record of the
	// mirror. If such a log does not begin at 0, it held records only before the topic was a
	// mirror.
	fresh bool
	// fillers says that the log holds only the fillers of a burn that was not completed.
	fillers bool
	// align says that the partition's offsets are to be aligned; otherwise noAlign says why not.
	align   bool
	noAlign string
	floor   int64 // the timeline's floor when the log was read
	// straight says that, from the start of the timeline on, each physical offset has the next
	// logical one: there is no hole and nothing void.
	straight bool
	// knocked says that the log was aligned until a void batch took offsets in it.
	knocked bool
	stored  int64 // the logical offset stored in the timeline for end, -1 = other than next
}

// epochEnd is a batch of the source: the leader epoch it was written in, and the offset after it;
// -1 = none is known.
type epochEnd struct {
	epoch int32
	end   int64
}

// resumed continues from the end of the destination's log, as the worker has read it.
func (p *partition) resumed(e logEnd) effects {
	if p.state != stateResuming {
		return effects{trim: -1}
	}
	p.state, p.unsettled = stateRunning, false
	p.next, p.phys, p.floor, p.epoch = e.next, e.end, e.floor, e.epoch
	p.tail, p.doneTail = e.tail, e.tail
	p.trimmed = -1
	p.sure, p.sureKnown = place{e.end, e.next}, true
	p.virgin = (e.end == e.start && (e.end == 0 || e.fresh) || e.fillers) && e.next <= e.floor
	p.empty, p.stored = p.virgin, e.stored
	p.align, p.noAlign, p.straight = e.align, e.noAlign, e.straight || p.virgin
	shifts := !p.virgin && p.tail != p.phys
	p.overtaken = false
	p.burned, p.isShifted, p.holeLen = false, shifts && p.phys > 0, 0
	switch {
	case shifts && p.align && e.knocked:
		p.isShifted = false // the next append shows
		p.align, p.noAlign = false, "a batch that klink did not write, or wrote twice, has taken offsets"
	case shifts && p.align:
		p.align, p.noAlign = false, "the log was not aligned before"
	}
	p.seen, p.done, p.last, p.checked = e.last, e.last, e.last, neverChecked
	p.fetchAt = p.next
	if p.virgin {
		p.fetchAt = e.floor
	}
	if p.stopping || p.realigned || p.broken != nil {
		return p.settle(effects{trim: -1})
	}
	return effects{trim: p.trim()}
}

// trim returns the logical offset below which the destination's records must be deleted, so that
// the log holds nothing below the floor; -1 = nothing to delete.
func (p *partition) trim() int64 {
	to := min(p.floor, p.next)
	if p.virgin || to <= p.trimmed || to <= 0 {
		return -1
	}
	p.trimmed = to
	return to
}

// anchored continues after the worker has stored the anchor.
func (p *partition) anchored() effects {
	if p.state != stateAnchoring {
		return effects{trim: -1}
	}
	p.state = stateRunning
	return p.settle(effects{trim: -1})
}

// take moves the next append into flight and returns its items; none if there is no append, or one
// is in flight already. Several items must be appended as one batch. The caller owns the items
// until it reports their result, exactly once: with appended, confirmed, marked, unmarked,
// uncertain or rejected.
func (p *partition) take(r joinRule) []item {
	if _, ok := p.head(); !ok {
		return nil
	}
	p.begun, p.ahead = 0, 0
	return p.send(r)
}

// more moves another append into flight behind those that are, if it follows them without a hole.
// The caller reports one result for all of them: confirmed or uncertain.
func (p *partition) more(r joinRule) []item {
	if p.state != stateRunning || p.flight == 0 || p.flight >= len(p.queue) || p.stopping || p.broken != nil || p.realigned {
		return nil
	}
	last, next := &p.queue[p.flight-1], &p.queue[p.flight]
	if last.markers() || next.markers() || next.base != last.end() {
		return nil
	}
	for _, i := range p.queue[p.begun:p.flight] {
		p.ahead += int64(i.records)
	}
	p.begun = p.flight
	return p.send(r)
}

// send moves an append into flight: the next item behind the first begun ones, and those that are
// joined to it.
func (p *partition) send(r joinRule) []item {
	p.flight = p.begun + p.joinable(p.begun, r)
	return p.queue[p.begun:p.flight]
}

// single takes all items but the first of the last append out of flight again, as they cannot be
// joined.
func (p *partition) single() { p.flight = min(p.flight, p.begun+1) }

// place returns the physical offset at which the append that was taken last has to land.
func (p *partition) place() int64 { return p.phys + p.ahead }

// head returns the first item that take would return.
func (p *partition) head() (i item, ok bool) {
	if p.state != stateRunning || p.flight > 0 || p.stopping || p.broken != nil || len(p.queue) == 0 {
		return item{}, false
	}
	return p.queue[0], true
}

// appended settles the append in flight: the broker wrote its batch at the physical offset base.
func (p *partition) appended(base int64) effects {
	i := p.pop()
	if base != p.phys {
		// Somebody else wrote to the log, or an append that was believed lost arrived late. A batch
		// that is not at its place is void, so the log must be read to see what counts.
		return p.reread(false)
	}
	e := effects{trim: -1}
	if base != i.base && !p.isShifted {
		p.isShifted = true
		e.shifted = &shifted{i.base, p.noAlign}
	}
	p.straight = p.straight && i.base == p.doneTail
	p.next, p.phys, p.doneTail = i.end(), base+int64(i.records), i.end()
	p.done, p.last, p.empty = i.seen, i.seen, false
	p.sure = place{p.phys, p.next}
	e.trim = p.trim()
	return p.settle(e)
}

// confirmed settles all that is in flight: every append stands at its place.
func (p *partition) confirmed() effects { return p.appended(p.phys) }

// marked settles the markers in flight: the broker wrote them, but did not say at which offset.
func (p *partition) marked() effects {
	i := p.pop()
	p.straight = p.straight && i.base == p.doneTail
	p.next = max(p.next, i.end()) // next may be behind the hole already: align was not set at first
	p.phys, p.doneTail, p.empty = p.phys+int64(i.records), i.end(), false
	p.done = i.seen
	return p.settle(effects{trim: p.trim()})
}

// unmarked settles the markers in flight: the broker refused them for good, but may have written
// some of them. From now on holes are not filled.
func (p *partition) unmarked(why string) effects {
	p.pop()
	e := p.reread(false)
	p.align, p.noAlign = false, why
	return e
}

// realign is called when the decision to fill holes and burn offsets may have changed. Once nothing
// is in flight the log is read, and resumed brings the new decision. The caller must break off a
// burn that runs.
func (p *partition) realign() effects {
	p.realigned = !p.ended()
	return p.settle(effects{trim: -1})
}

// confirm has the log read if the partition is idle, and neither an append nor the log has
// confirmed its end yet.
func (p *partition) confirm() effects {
	if p.state != stateRunning || p.flight > 0 || len(p.queue) > 0 || p.sure.physical == p.phys {
		return effects{trim: -1}
	}
	return p.reread(false)
}

// reread drops the queue and has the log read. Nothing may be in flight.
func (p *partition) reread(lingering bool) effects {
	p.drop()
	switch {
	case p.abandoned:
		return p.end(stateStopped)
	case p.broken != nil && !p.stopping:
		return p.fail(p.broken)
	}
	p.state, p.unsettled, p.realigned = stateResuming, true, false
	return effects{resume: true, lingering: lingering, trim: -1}
}

// uncertain settles what is in flight without a result: it may have been appended, or may yet be.
// lingering says that its request may still be on its way to the broker.
func (p *partition) uncertain(lingering bool) effects {
	p.pop()
	return p.reread(lingering)
}

// aligned ends a burn: the log is empty, and begins and ends at the physical offset to. From now on
// that is the logical end, too.
func (p *partition) aligned(to int64) effects {
	if p.state != stateAligning {
		return effects{trim: -1}
	}
	p.burned, p.phys, p.next, p.stored = true, to, to, to
	p.tail, p.doneTail = to, to
	p.sure = place{to, to}
	p.floor = max(p.floor, p.sourceStart)
	p.fetchAt = max(to, p.floor)
	p.state = stateAnchoring
	return effects{trim: -1, anchor: &anchor{physical: to, logical: to, floor: p.floor}}
}

// notAligned ends a burn that failed or was broken off. What the burn has appended is still in the
// log.
func (p *partition) notAligned(why string, lingering bool) effects {
	if p.state != stateAligning {
		return effects{trim: -1}
	}
	e := p.reread(lingering)
	p.noAlign = why
	return e
}

// rejected settles the batch in flight: it was not appended, and never can be.
func (p *partition) rejected(f *failure) effects {
	p.pop()
	return p.fail(f)
}

// stop ends the partition. The effect ended comes at once, or when the append in flight is settled.
func (p *partition) stop() effects {
	p.stopping = true
	p.drop()
	return p.settle(effects{trim: -1})
}

// abandon is stop for a log that no longer belongs to the mirror: it waits for the appends in
// flight, but does not read the log to settle them.
func (p *partition) abandon() effects {
	p.abandoned = true
	if p.flight == 0 {
		p.stopping = true
		return p.end(stateStopped)
	}
	return p.stop()
}

// fail ends the partition with a failure. Nothing may be in flight.
func (p *partition) fail(f *failure) effects {
	p.failed = f
	return p.end(stateFailed)
}

// settle decides what to do next when an append or an anchor is done, or when a stop is asked for.
func (p *partition) settle(e effects) effects {
	switch {
	case p.ended() || p.flight > 0 || p.unsettled || p.state == stateAnchoring || p.state == stateAligning:
	case p.broken != nil && p.state == stateRunning && !p.stopping:
		e.ended, e.ready = p.fail(p.broken).ended, false
	case p.realigned && p.state == stateRunning && !p.stopping:
		r := p.reread(false)
		e.resume, e.ended, e.ready = r.resume, r.ended, false
	case p.stopping && p.state == stateRunning && p.phys != p.sure.physical:
		r := p.reread(false)
		e.resume, e.ended = r.resume, r.ended
	case p.stopping && p.state == stateRunning && p.empty && p.stored != max(p.next, p.floor):
		// The log is empty. Clients have seen the floor as its end, so the first record that one of
		// them writes after the stop must not get a lower offset.
		p.next = max(p.next, p.floor)
		p.stored, p.state = p.next, stateAnchoring
		e.anchor = &anchor{physical: p.phys, logical: p.next, floor: min(p.floor, p.next)}
	case p.stopping:
		e.ended = p.end(stateStopped).ended
	case p.state == stateRunning && len(p.queue) > 0:
		e.ready = true
	case p.state == stateRunning && p.doomed != nil:
		e.ended = p.fail(p.doomed).ended
	case p.state == stateRunning && p.fetchAt > p.next && !p.overtaken:
		p.next, p.done = p.fetchAt, p.seen // the source ends in a hole, as far as is known
		if e.trim < 0 {
			e.trim = p.trim()
		}
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
