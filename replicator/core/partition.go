package core

// state is where a partition is in its life.
type state uint8

const (
	// StateResuming: the worker is reading where the destination's log ends. Nothing is fetched or
	// appended.
	StateResuming state = iota
	// StateRunning: batches are fetched and appended.
	StateRunning
	// StateAnchoring: batches are fetched, but nothing is appended until the worker has stored a
	// new start of the timeline.
	StateAnchoring
	// stateAligning: the worker is burning the physical offsets below the first record's. Nothing
	// is fetched or appended.
	stateAligning
	// stateStopped and StateFailed: nothing is in flight and nothing will be appended, ever.
	stateStopped
	StateFailed
)

// String names the state, as in testdata.
func (s state) String() string {
	return [...]string{"resuming", "running", "anchoring", "aligning", "stopped", "failed"}[s]
}

// Effects lists what the worker has to do after an input. Several effects can be set at once.
type Effects struct {
	// Resume: read where the destination's log ends, then call resumed. lingering says that a
	// request without a result may still be on its way to the broker. If the log lacks its batch,
	// the log must be read again some time later.
	Resume, Lingering bool
	// Anchor: store this start of the timeline, then call anchored.
	Anchor *Anchor
	// Ready: take has an append.
	Ready bool
	// Trim: delete the destination's records below this logical offset; 0 = none.
	Trim int64
	// Burn: use up the physical offsets below this one, then call aligned or notAligned; 0 = no.
	Burn int64
	// Shifted: the log has its first record whose physical and logical offsets differ; nil = no.
	Shifted *Shifted
	// Lost: the number of offsets that the source deleted before they were mirrored.
	Lost int64
	// Ended: the state became stateStopped or stateFailed.
	Ended bool
	// refused is why the leader has to be asked for what a follower answered.
	refused error
}

// Anchor is a start of the timeline: the physical offset physical is the logical offset logical,
// and clients see nothing below floor.
type Anchor struct{ Physical, Logical, Floor int64 }

// Shifted names the first logical offset whose physical offset differs, and the reason, as a text
// for people.
type Shifted struct {
	Began  int64
	Reason string
}

// Place is a position in the log: the log up to physical holds the source's records up to logical.
type Place struct{ Physical, Logical int64 }

// Partition is the deterministic core of one mirror partition: inputs are its methods, outputs are
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
type Partition struct {
	Name string // topic-partition, for messages

	State   state
	Next    int64 // logical offset of the next append
	Phys    int64 // physical offset of the next append
	Virgin  bool  // no record of the mirror was ever in the log, and none is queued
	Empty   bool  // no record of the mirror was ever in the log, as far as known
	stored  int64 // while virgin: the logical offset that the stored timeline has for phys
	Floor   int64 // lowest logical offset that is shown
	trimmed int64 // the offset that the effect trim had last

	Epoch     int32 // the destination's leader epoch when the log was read, -1 = unknown
	Sure      Place
	SureKnown bool
	// Tail is the logical offset after the last item that is queued or appended; doneTail is the
	// one after the last item that was appended. The next item begins at tail or later.
	Tail, DoneTail int64
	// Seen, done and last are the last batches of the source before fetchAt, next and sure. checked
	// is the leader epoch of the source under which its log is known to have seen: see
	// truncation.go.
	Seen, Done, Last EpochEnd
	checked          int32
	proofs           proofs // for batches of followers

	Align     bool   // holes are filled with markers, so that phys = next
	burned    bool   // a virgin log needs no burn (any more)
	isShifted bool   // some record's physical and logical offsets differ
	Straight  bool   // from the timeline's start on there is no hole and nothing void
	noAlign   string // why align is false, for people
	holeLen   int64  // offsets of the hole before fetchAt that are filled with markers
	Realigned bool   // align may have changed: the log is read once nothing is in flight

	Queue    []Item // a part of items
	items    []Item // the backing array of queue
	Flight   int    // how many items at the beginning of queue are in flight
	Begun    int    // how many of them belong to the appends before the last one
	ahead    int64  // and how many records these have
	waited   bool   // queued items have waited for an append in flight, and may be joined
	Queued   int    // bytes in queue
	FetchAt  int64
	Fetching bool
	Gen      uint32
	Largest  int // bytes of the largest batch seen: a fetch that asks for less may bring nothing

	Stopping  bool
	Abandoned bool
	Unsettled bool     // an append, here or of a former process, has no result: stop needs resumed
	Doomed    *Failure // found behind the queue: fails the partition once that is appended
	broken    *Failure // the destination rewrites batches: no appends; fails once none is in flight
	Failed    *Failure // with stateFailed

	SourceStart  int64 // log start, last stable offset, high watermark as last seen; -1 = unknown
	SourceStable int64
	SourceEnd    int64
	// overtaken: the source deleted records before they were mirrored, so fetchAt is its log start,
	// and no batch has been seen there yet. The first batch may begin below fetchAt, and is
	// appended whole. Until then the mirror's end does not move to the end of the hole.
	overtaken   bool
	truncations int // fetches in a row that found the source's end below fetchAt
	corruptions int // fetches in a row with damage at the same place

	release func(Item) // frees the bytes of a batch
}

// NewPartition returns the core of a partition whose log has not been read yet. name is for
// messages; release is called with each item that the core drops or has appended.
func NewPartition(name string, release func(Item)) Partition {
	return Partition{Name: name, SourceStart: -1, SourceStable: -1, SourceEnd: -1, Next: -1, Phys: -1, trimmed: -1, Seen: UnknownEpoch, Done: UnknownEpoch, Last: UnknownEpoch, checked: neverChecked, release: release}
}

// LogEnd is what the worker has read from the destination's log.
type LogEnd struct {
	Start, End int64    // physical log start and end
	Epoch      int32    // the leader epoch at that time, -1 = the broker has none
	Next       int64    // logical end: after the last record, or after a known hole behind it
	Tail       int64    // logical offset after the last record or marker; at most next
	Last       EpochEnd // the last batch of the source before next, as far as known
	// Fresh says of a log that is empty, or has only fillers, that it never held a record of the
	// mirror. If such a log does not begin at 0, it held records only before the topic was a
	// mirror.
	Fresh bool
	// Fillers says that the log holds only the fillers of a burn that was not completed.
	Fillers bool
	// Align says that the partition's offsets are to be aligned; otherwise noAlign says why not.
	Align   bool
	NoAlign string
	Floor   int64 // the timeline's floor when the log was read
	// Straight says that, from the start of the timeline on, each physical offset has the next
	// logical one: there is no hole and nothing void.
	Straight bool
	// Knocked says that the log was aligned until a void batch took offsets in it.
	Knocked bool
	Stored  int64 // the logical offset stored in the timeline for end, -1 = other than next
}

// EpochEnd is a batch of the source: the leader epoch it was written in, and the offset after it;
// -1 = none is known.
type EpochEnd struct {
	Epoch int32
	End   int64
}

// Resumed continues from the end of the destination's log, as the worker has read it.
func (p *Partition) Resumed(e LogEnd) Effects {
	if p.State != StateResuming {
		return Effects{}
	}
	p.State, p.Unsettled = StateRunning, false
	p.Next, p.Phys, p.Floor, p.Epoch = e.Next, e.End, e.Floor, e.Epoch
	p.Tail, p.DoneTail = e.Tail, e.Tail
	p.trimmed = -1
	p.Sure, p.SureKnown = Place{Physical: e.End, Logical: e.Next}, true
	p.Virgin = (e.End == e.Start && (e.End == 0 || e.Fresh) || e.Fillers) && e.Next <= e.Floor
	p.Empty, p.stored = p.Virgin, e.Stored
	p.Align, p.noAlign, p.Straight = e.Align, e.NoAlign, e.Straight || p.Virgin
	shifts := !p.Virgin && p.Tail != p.Phys
	p.overtaken = false
	p.burned, p.isShifted, p.holeLen = false, shifts && p.Phys > 0, 0
	switch {
	case shifts && p.Align && e.Knocked:
		p.isShifted = false // the next append shows
		p.Align, p.noAlign = false, "a batch that klink did not write, or wrote twice, used up offsets"
	case shifts && p.Align:
		p.Align, p.noAlign = false, "the log was not aligned before"
	}
	p.Seen, p.Done, p.Last, p.checked = e.Last, e.Last, e.Last, neverChecked
	p.FetchAt = p.Next
	if p.Virgin {
		p.FetchAt = e.Floor
	}
	if p.Stopping || p.Realigned || p.broken != nil {
		return p.settle(Effects{})
	}
	return Effects{Trim: p.trim()}
}

// trim returns the logical offset below which the destination's records must be deleted, so that
// the log holds nothing below the floor; -1 = nothing to delete.
func (p *Partition) trim() int64 {
	to := min(p.Floor, p.Next)
	if p.Virgin || to <= p.trimmed || to <= 0 {
		return 0
	}
	p.trimmed = to
	return to
}

// Anchored continues after the worker has stored the anchor.
func (p *Partition) Anchored() Effects {
	if p.State != StateAnchoring {
		return Effects{}
	}
	p.State = StateRunning
	return p.settle(Effects{})
}

// Take moves the next append into flight and returns its items; none if there is no append, or one
// is in flight already. Several items must be appended as one batch. The caller owns the items
// until it reports their result, exactly once: with appended, confirmed, marked, unmarked,
// uncertain or rejected.
func (p *Partition) Take(r JoinRule) []Item {
	if _, ok := p.Head(); !ok {
		return nil
	}
	p.Begun, p.ahead = 0, 0
	return p.send(r)
}

// More moves another append into flight behind those that are, if it follows them without a hole.
// The caller reports one result for all of them: confirmed or uncertain.
func (p *Partition) More(r JoinRule) []Item {
	if p.State != StateRunning || p.Flight == 0 || p.Flight >= len(p.Queue) || p.Stopping || p.broken != nil || p.Realigned {
		return nil
	}
	last, next := &p.Queue[p.Flight-1], &p.Queue[p.Flight]
	if last.Markers() || next.Markers() || next.Base != last.End() {
		return nil
	}
	for _, i := range p.Queue[p.Begun:p.Flight] {
		p.ahead += int64(i.Records)
	}
	p.Begun = p.Flight
	return p.send(r)
}

// send moves an append into flight: the next item behind the first begun ones, and those that are
// joined to it.
func (p *Partition) send(r JoinRule) []Item {
	p.Flight = p.Begun + p.joinable(p.Begun, r)
	return p.Queue[p.Begun:p.Flight]
}

// Single takes all items but the first of the last append out of flight again, as they cannot be
// joined.
func (p *Partition) Single() { p.Flight = min(p.Flight, p.Begun+1) }

// Place returns the physical offset at which the append that was taken last has to land.
func (p *Partition) Place() int64 { return p.Phys + p.ahead }

// Head returns the first item that take would return.
func (p *Partition) Head() (i Item, ok bool) {
	if p.State != StateRunning || p.Flight > 0 || p.Stopping || p.broken != nil || len(p.Queue) == 0 {
		return Item{}, false
	}
	return p.Queue[0], true
}

// Appended settles the append in flight: the broker wrote its batch at the physical offset base.
func (p *Partition) Appended(base int64) Effects {
	i := p.pop()
	if base != p.Phys {
		// Somebody else wrote to the log, or an append that was believed lost arrived late. A batch
		// that is not at its place is void, so the log must be read to see what counts.
		return p.reread(false)
	}
	e := Effects{}
	if base != i.Base && !p.isShifted {
		p.isShifted = true
		e.Shifted = &Shifted{Began: i.Base, Reason: p.noAlign}
	}
	p.Straight = p.Straight && i.Base == p.DoneTail
	p.Next, p.Phys, p.DoneTail = i.End(), base+int64(i.Records), i.End()
	p.Done, p.Last, p.Empty = i.Seen, i.Seen, false
	p.Sure = Place{Physical: p.Phys, Logical: p.Next}
	e.Trim = p.trim()
	return p.settle(e)
}

// Confirmed settles all that is in flight: every append stands at its place.
func (p *Partition) Confirmed() Effects { return p.Appended(p.Phys) }

// Marked settles the markers in flight: the broker wrote them, but did not say at which offset.
func (p *Partition) Marked() Effects {
	i := p.pop()
	p.Straight = p.Straight && i.Base == p.DoneTail
	p.Next = max(p.Next, i.End()) // next may be behind the hole already: align was not set at first
	p.Phys, p.DoneTail, p.Empty = p.Phys+int64(i.Records), i.End(), false
	p.Done = i.Seen
	return p.settle(Effects{Trim: p.trim()})
}

// Unmarked settles the markers in flight: the broker refused them for good, but may have written
// some of them. From now on holes are not filled.
func (p *Partition) Unmarked(why string) Effects {
	p.pop()
	e := p.reread(false)
	p.Align, p.noAlign = false, why
	return e
}

// Realign is called when the decision to fill holes and burn offsets may have changed. Once nothing
// is in flight the log is read, and resumed brings the new decision. The caller must break off a
// burn that runs.
func (p *Partition) Realign() Effects {
	p.Realigned = !p.Ended()
	return p.settle(Effects{})
}

// Confirm has the log read if the partition is idle, and neither an append nor the log has
// confirmed its end yet.
func (p *Partition) Confirm() Effects {
	if p.State != StateRunning || p.Flight > 0 || len(p.Queue) > 0 || p.Sure.Physical == p.Phys {
		return Effects{}
	}
	return p.reread(false)
}

// reread drops the queue and has the log read. Nothing may be in flight.
func (p *Partition) reread(lingering bool) Effects {
	p.drop()
	switch {
	case p.Abandoned:
		return p.end(stateStopped)
	case p.broken != nil && !p.Stopping:
		return p.Fail(p.broken)
	}
	p.State, p.Unsettled, p.Realigned = StateResuming, true, false
	return Effects{Resume: true, Lingering: lingering}
}

// Uncertain settles what is in flight without a result: it may have been appended, or may yet be.
// lingering says that its request may still be on its way to the broker.
func (p *Partition) Uncertain(lingering bool) Effects {
	p.pop()
	return p.reread(lingering)
}

// Aligned ends a burn: the log is empty, and begins and ends at the physical offset to. From now on
// that is the logical end, too.
func (p *Partition) Aligned(to int64) Effects {
	if p.State != stateAligning {
		return Effects{}
	}
	p.burned, p.Phys, p.Next, p.stored = true, to, to, to
	p.Tail, p.DoneTail = to, to
	p.Sure = Place{Physical: to, Logical: to}
	p.Floor = max(p.Floor, p.SourceStart)
	p.FetchAt = max(to, p.Floor)
	p.State = StateAnchoring
	return Effects{Anchor: &Anchor{Physical: to, Logical: to, Floor: p.Floor}}
}

// NotAligned ends a burn that failed or was broken off. What the burn has appended is still in the
// log.
func (p *Partition) NotAligned(why string, lingering bool) Effects {
	if p.State != stateAligning {
		return Effects{}
	}
	e := p.reread(lingering)
	p.noAlign = why
	return e
}

// Rejected settles the batch in flight: it was not appended, and never can be.
func (p *Partition) Rejected(f *Failure) Effects {
	p.pop()
	return p.Fail(f)
}

// Stop ends the partition. The effect ended comes at once, or when the append in flight is settled.
func (p *Partition) Stop() Effects {
	p.Stopping = true
	p.drop()
	return p.settle(Effects{})
}

// Abandon is stop for a log that no longer belongs to the mirror: it waits for the appends in
// flight, but does not read the log to settle them.
func (p *Partition) Abandon() Effects {
	p.Abandoned = true
	if p.Flight == 0 {
		p.Stopping = true
		return p.end(stateStopped)
	}
	return p.Stop()
}

// Fail ends the partition with a failure. Nothing may be in flight.
func (p *Partition) Fail(f *Failure) Effects {
	p.Failed = f
	return p.end(StateFailed)
}

// settle decides what to do next when an append or an anchor is done, or when a stop is asked for.
func (p *Partition) settle(e Effects) Effects {
	switch {
	case p.Ended() || p.Flight > 0 || p.Unsettled || p.State == StateAnchoring || p.State == stateAligning:
	case p.broken != nil && p.State == StateRunning && !p.Stopping:
		e.Ended, e.Ready = p.Fail(p.broken).Ended, false
	case p.Realigned && p.State == StateRunning && !p.Stopping:
		r := p.reread(false)
		e.Resume, e.Ended, e.Ready = r.Resume, r.Ended, false
	case p.Stopping && p.State == StateRunning && p.Phys != p.Sure.Physical:
		r := p.reread(false)
		e.Resume, e.Ended = r.Resume, r.Ended
	case p.Stopping && p.State == StateRunning && p.Empty && p.stored != max(p.Next, p.Floor):
		// The log is empty. Clients have seen the floor as its end, so the first record that one of
		// them writes after the stop must not get a lower offset.
		p.Next = max(p.Next, p.Floor)
		p.stored, p.State = p.Next, StateAnchoring
		e.Anchor = &Anchor{Physical: p.Phys, Logical: p.Next, Floor: min(p.Floor, p.Next)}
	case p.Stopping:
		e.Ended = p.end(stateStopped).Ended
	case p.State == StateRunning && len(p.Queue) > 0:
		e.Ready = true
	case p.State == StateRunning && p.Doomed != nil:
		e.Ended = p.Fail(p.Doomed).Ended
	case p.State == StateRunning && p.FetchAt > p.Next && !p.overtaken:
		p.Next, p.Done = p.FetchAt, p.Seen // the source ends in a hole, as far as is known
		if e.Trim == 0 {
			e.Trim = p.trim()
		}
	}
	return e
}

// Ended reports whether the partition is stopped or has failed: it appends nothing any more.
func (p *Partition) Ended() bool { return p.State == stateStopped || p.State == StateFailed }

func (p *Partition) end(s state) Effects {
	if p.Ended() {
		return Effects{}
	}
	p.State, p.Unsettled = s, false
	p.drop()
	return Effects{Ended: true}
}
