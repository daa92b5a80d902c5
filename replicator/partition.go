package replicator

// state is where a partition is in its life.
type state uint8

const (
	// stateResuming: where the destination's log ends is being read; nothing is fetched or
	// appended.
	stateResuming state = iota
	// stateRunning: batches are fetched and appended.
	stateRunning
	// stateAnchoring: as running, but a new start of the timeline is being stored, and nothing is
	// appended before it is.
	stateAnchoring
	// stateAligning: the physical offsets below the first record's are being burned; nothing is
	// fetched or appended.
	stateAligning
	// stateStopped and stateFailed: nothing is in flight and nothing will be appended, ever.
	stateStopped
	stateFailed
)

func (s state) String() string {
	return [...]string{"resuming", "running", "anchoring", "aligning", "stopped", "failed"}[s]
}

// effects is what the owner of a partition has to do after an input. Several can be asked for at
// once.
type effects struct {
	// resume: read the end of the destination's log and call resumed. lingering says that a request
	// whose result is unknown may still be on its way to the broker, so that a log without its
	// batch has to be read twice, some time apart.
	resume, lingering bool
	// anchor: store this start of the timeline, then call anchored.
	anchor *anchor
	// ready: take has a batch.
	ready bool
	// trim: delete the destination's records below this logical offset; -1 = none.
	trim int64
	// burn: use up the physical offsets below this one, then call aligned or notAligned; 0 = no.
	burn int64
	// shifted: the first record is in the log whose physical offset is not the logical one; nil =
	// no.
	shifted *shifted
	// lost: so many offsets were deleted at the source before they were mirrored.
	lost int64
	// ended: the state became stateStopped or stateFailed.
	ended bool
}

// anchor says that physical offset physical is logical offset logical, and that nothing below floor
// is shown.
type anchor struct{ physical, logical, floor int64 }

// shifted says from which logical offset on physical offsets have been others, and why, for people.
type shifted struct {
	began  int64
	reason string
}

// place is a place in the log: the records before physical are those below logical.
type place struct{ physical, logical int64 }

// partition is the deterministic core of one mirror partition: inputs are its methods, outputs are
// their effects.
//
// Invariants:
//  1. In flight are the first items of the queue, as one append or as a window of several
//     (window.go); an append is one item, or a few as one batch (join.go). A window is settled as a
//     whole. The queue is in order, and begins at next or above; what lies between its items, or
//     behind the last one up to fetchAt, is a hole of the source: transaction markers, aborted or
//     compacted records. There is none within a window.
//  2. next and phys, the end of the mirror in both kinds of offsets, move only by an append
//     confirmed at phys, by markers written, by a hole behind the last record, or by reading the
//     destination's log. After an unknown result, and after an append at another offset, they are
//     read, never guessed.
//  3. sure is the last place that an append or the log has confirmed. Markers are written without
//     being told where; the next append tells, and until then sure stays before them.
//  4. next - phys is the shift. It grows at holes that are not filled with markers. With align it
//     is 0.
//  5. Nothing is skipped but holes: a batch begins at fetchAt or later, or is a run of a batch that
//     was appended in part (Recoder.Runs leaves whole runs out), or the partition fails with a name
//     for what was met. The items before it are still appended.
//  6. Once stopped or failed nothing is in flight, the result of every append is known or was given
//     up by abandon, and take gives nothing more.
//  7. The result of a fetch counts only if its generation is current: whatever drops the queue
//     begins a new one.
type partition struct {
	name string // topic-partition, for messages

	state   state
	next    int64 // logical offset of the next append
	phys    int64 // physical offset of the next append
	virgin  bool  // no record of the mirror was ever in the log, and none is queued
	empty   bool  // no record of the mirror was ever in the log, as far as known
	stored  int64 // while virgin: the logical offset that the stored timeline has for phys
	floor   int64 // lowest logical offset that is shown
	trimmed int64 // what trim was asked for last

	epoch     int32 // of the leader at the destination when the log was read, -1 = it has not said
	sure      place
	sureKnown bool
	// tail is the logical offset after the last item that is queued or appended, doneTail that of
	// the last appended. The next item begins there or later.
	tail, doneTail int64
	// seen, done and last are the last batches of the source before fetchAt, next and sure; checked
	// is the leader epoch of the source at which seen is known to be there: see truncation.go.
	seen, done, last epochEnd
	checked          int32

	align     bool   // holes are filled, as phys = next
	burned    bool   // a virgin log needs no burn (any more)
	isShifted bool   // some record has another physical offset than its logical one
	straight  bool   // every physical offset from the start of the timeline on has the next logical one: no holes, nothing void
	noAlign   string // why align is false, for people
	holeLen   int64  // offsets of the hole before fetchAt that are filled with markers
	realigned bool   // whether holes are to be filled has changed: the log is read anew as soon as that can be

	queue    []item // a part of items
	items    []item // the memory of queue
	flight   int    // how many items at the beginning of queue are in flight
	begun    int    // how many of them belong to the appends before the last one
	ahead    int64  // and how many records these have
	waited   bool   // what is queued has waited for an append in flight: it may be joined
	queued   int    // bytes in queue
	fetchAt  int64
	fetching bool
	gen      uint32
	largest  int // bytes of the largest batch met: a fetch that asks for less may bring nothing

	stopping  bool
	abandoned bool
	unsettled bool     // a result is unknown since the last resume, here or of a former process: stop awaits the resume
	doomed    *failure // met behind the queue; fails once the queue is appended
	broken    *failure // the destination rewrites batches: nothing more is appended, and fails once nothing is in flight
	failed    *failure // with stateFailed

	sourceStart  int64 // log start, last stable offset, high watermark as last seen; -1 = unknown
	sourceStable int64
	sourceEnd    int64
	// overtaken: fetchAt is the source's log start, behind records that it has deleted, and no
	// batch has been seen there. The first one may hold fetchAt in its middle, and is appended
	// whole: until then the hole's end is not the mirror's.
	overtaken   bool
	truncations int // fetches in a row that found the source's end below fetchAt
	corruptions int // fetches in a row with damage at the same place

	release func(item) // gives the bytes of a batch back
}

func newPartition(name string, release func(item)) partition {
	return partition{name: name, sourceStart: -1, sourceStable: -1, sourceEnd: -1, next: -1, phys: -1, trimmed: -1, seen: unknownEpoch, done: unknownEpoch, last: unknownEpoch, checked: neverChecked, release: release}
}

// logEnd is what was read at the destination.
type logEnd struct {
	start, end int64    // physical log start and end
	epoch      int32    // of the leader that said so, -1 = it has none
	next       int64    // logical end: the offset after the last record, or after a hole behind it that is known of
	tail       int64    // after the last record, or the last marker; at most next
	last       epochEnd // the last batch of the source before next, as far as known
	// fresh says that no record of the mirror was in the log yet, if that is empty or has nothing
	// but fillers: one that does not begin at 0 held records only before it was a mirror's.
	fresh bool
	// fillers says that the log holds nothing but the fillers of a burn that was not completed.
	fillers bool
	// align says that the partition's offsets are to be aligned; otherwise noAlign says why not.
	align   bool
	noAlign string
	floor   int64 // of the timeline at the time of the reading
	// straight says that from the start of the timeline on every physical offset has the next
	// logical one.
	straight bool
	// knocked says that the log was aligned, and is not any more, since a batch in it is void.
	knocked bool
	stored  int64 // the logical offset that the stored timeline has for end, -1 = another one than next
}

// epochEnd is a batch of the source: the leader epoch it was written in, and the offset after it;
// -1 = none is known.
type epochEnd struct {
	epoch int32
	end   int64
}

// resumed takes what the destination's log says.
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
		p.isShifted = false // the next append tells
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

// trim is up to which logical offset the destination's log must be deleted so that it holds nothing
// below the floor; -1 = nothing to delete.
func (p *partition) trim() int64 {
	to := min(p.floor, p.next)
	if p.virgin || to <= p.trimmed || to <= 0 {
		return -1
	}
	p.trimmed = to
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

// take moves the next append into flight; there are no items if there is none, or one is in flight
// already. Several items are to be appended as one batch. They are the caller's until it calls
// appended, uncertain or rejected, exactly once.
func (p *partition) take(r joinRule) []item {
	if _, ok := p.head(); !ok {
		return nil
	}
	p.begun, p.ahead = 0, 0
	return p.send(r)
}

// more moves another append into flight, behind those that are: it follows on them without a hole.
// The caller tells of all of them together: confirmed or uncertain.
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

// send moves an append into flight: what follows the first begun items.
func (p *partition) send(r joinRule) []item {
	p.flight = p.begun + p.joinable(p.begun, r)
	return p.queue[p.begun:p.flight]
}

// single takes all but the first of the items of the last append back: they cannot be joined.
func (p *partition) single() { p.flight = min(p.flight, p.begun+1) }

// place is the physical offset of the append that was moved into flight last.
func (p *partition) place() int64 { return p.phys + p.ahead }

// head is what take would give.
func (p *partition) head() (i item, ok bool) {
	if p.state != stateRunning || p.flight > 0 || p.stopping || p.broken != nil || len(p.queue) == 0 {
		return item{}, false
	}
	return p.queue[0], true
}

// appended: the batch in flight stands at the physical offset base.
func (p *partition) appended(base int64) effects {
	i := p.pop()
	if base != p.phys {
		// Somebody else wrote, or an append that was believed lost came after all. What stands
		// elsewhere than its stamp says is void. The log tells what counts.
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

// confirmed: all that is in flight stands where it was to stand.
func (p *partition) confirmed() effects { return p.appended(p.phys) }

// marked: the markers in flight were written; where, nobody has said.
func (p *partition) marked() effects {
	i := p.pop()
	p.straight = p.straight && i.base == p.doneTail
	p.next = max(p.next, i.end()) // the hole may have been noted before it was to be filled
	p.phys, p.doneTail, p.empty = p.phys+int64(i.records), i.end(), false
	p.done = i.seen
	return p.settle(effects{trim: p.trim()})
}

// unmarked: the markers in flight were refused, for good; some of them may have been written. From
// here on holes are not filled.
func (p *partition) unmarked(why string) effects {
	p.pop()
	e := p.reread(false)
	p.align, p.noAlign = false, why
	return e
}

// realign: whether holes are to be filled, and offsets to be burned, has changed. What is in flight
// is awaited; then the log is read, and what is to be comes with its end. A burn has to be broken
// off.
func (p *partition) realign() effects {
	p.realigned = !p.ended()
	return p.settle(effects{trim: -1})
}

// confirm reads the log if its end is only believed, and nothing is going on.
func (p *partition) confirm() effects {
	if p.state != stateRunning || p.flight > 0 || len(p.queue) > 0 || p.sure.physical == p.phys {
		return effects{trim: -1}
	}
	return p.reread(false)
}

// reread gives up what is queued, and reads the log; nothing is in flight.
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

// uncertain: whether the item in flight was or will be appended is not known. With lingering its
// request may still be on its way to the broker.
func (p *partition) uncertain(lingering bool) effects {
	p.pop()
	return p.reread(lingering)
}

// aligned: the log is empty, and begins and ends at the physical offset to, which is to be the
// logical one too.
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

// notAligned: offsets could not be burned, or that was broken off; the log holds what it holds.
func (p *partition) notAligned(why string, lingering bool) effects {
	if p.state != stateAligning {
		return effects{trim: -1}
	}
	e := p.reread(lingering)
	p.noAlign = why
	return e
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

// abandon is stop for a log that is no longer the mirror's: what is in flight is awaited, but not
// settled.
func (p *partition) abandon() effects {
	p.abandoned = true
	if p.flight == 0 {
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
		// The log is empty. The first record of the topic's own must not stand below what was shown
		// as the end.
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

// pop takes what is in flight out of the queue, and gives it as one item, without its bytes.
func (p *partition) pop() item {
	all := p.queue[0]
	all.records = 0
	for _, i := range p.queue[:p.flight] {
		all.records += i.records
		all.seen = i.seen
		p.queued -= len(i.bytes)
		if !i.markers() {
			p.release(i)
		}
	}
	clear(p.queue[:p.flight])
	p.queue = p.queue[p.flight:]
	p.flight, p.begun, p.ahead, p.waited = 0, 0, 0, len(p.queue) > 0
	return all
}

// push puts an item at the end of the queue, whose memory is used again.
func (p *partition) push(i item) {
	if n := len(p.queue); n == cap(p.queue) {
		to := p.items[:cap(p.items)]
		if len(to) < 2*(n+1) {
			to = make([]item, max(8, 2*(n+1)))
		}
		copy(to, p.queue)
		clear(to[n:])
		p.items, p.queue = to, to[:n]
	}
	p.queue = append(p.queue, i)
}

// drop forgets what is queued but not in flight, and what is being fetched. It will be fetched
// again.
func (p *partition) drop() {
	keep := p.flight
	for _, i := range p.queue[keep:] {
		p.queued -= len(i.bytes)
		if !i.markers() {
			p.release(i)
		}
	}
	clear(p.queue[keep:])
	p.queue = p.queue[:keep]
	p.gen++
	p.fetching = false
	p.truncations, p.holeLen = 0, 0
	p.fetchAt, p.tail, p.seen = p.next, p.doneTail, p.done
	if keep > 0 {
		i := p.queue[keep-1]
		p.fetchAt, p.tail, p.seen = i.end(), i.end(), i.seen
	}
	p.doomed = nil
}
