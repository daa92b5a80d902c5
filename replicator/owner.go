package replicator

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"time"

	"klink/admin/model"
	"klink/replicator/group"
)

// owner knows which slots this instance works on. The group protocol assigns them (member), and
// reconcile starts and stops mirrors accordingly. The control plane asks the owner before it stores
// anything that only the owner of a slot may store.
//
// Invariants, over all instances of a destination:
//  1. Single writer: only the owner of its slot appends to a partition of a mirror, within its
//     lease. Every append is sent with the context of the lease (appends), which ends when the
//     lease does. So at most one instance sends.
//  2. An instance works on a slot only after it was given the slot in a generation of the group,
//     and has fenced the state after that (Control.Fence). A write of a former owner to the state
//     was committed before the fence, and is seen, or it fails.
//  3. An instance gives a slot back to the group only when none of the slot's partitions runs here:
//     each of their appends has its result, or the log was read back. A lease that expires leaves
//     no time for that. Appends that were sent may still reach the log, as after a process was
//     killed. The next owner allows for that (lingering, in resume.go), and hides what arrives even
//     later.
//  4. An instance that does not own a partition announces nothing in its timeline
//     (timeline.Partition.Disown). So readers on this instance look into the log for what the owner
//     has appended.
//
// mu is a leaf: nothing is called with it held.
type owner struct {
	r   *Replicator
	all bool // no group: this instance owns everything, for good

	mu      sync.Mutex
	lease   group.Lease
	ctx     context.Context // of the lease; ended = there is none
	cancel  context.CancelFunc
	timer   *time.Timer
	working group.SlotSet       // given, and fenced
	leaving group.SlotSet       // to be given back once nothing runs in them
	terms   [group.Slots]uint64 // how often a slot was gained
	dropped chan struct{}       // closed once all mirrors know that the lease ended; nil = no lease has
	changed func()
	freed   chan struct{} // signals that leaving has shrunk; of capacity 1
}

// newOwner returns an owner of nothing or, without a group, of everything.
func newOwner(r *Replicator, g *Group) *owner {
	o := &owner{r: r, all: g == nil, freed: make(chan struct{}, 1), changed: func() {}}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.cancel()
	if g != nil {
		session := cmp.Or(g.SessionTimeout, defaultSession)
		o.lease = group.Lease{Session: session, Margin: session / 6}
		if g.Changed != nil {
			o.changed = g.Changed
		}
	}
	return o
}

// appends returns the context that every append is sent with. It ends with the lease.
func (o *owner) appends() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return o.r.life
	}
	o.look()
	return o.ctx
}

// look drops all work if the lease has expired; mu is held.
func (o *owner) look() {
	if !o.all && o.ctx.Err() == nil && !o.lease.Valid(time.Now()) {
		o.drop("could not renew the group membership in time")
	}
}

// drop ends the lease, and with it all work at once; mu is held.
func (o *owner) drop(why string) {
	o.lease.Held = false
	if o.working|o.leaving != 0 && o.r.life.Err() == nil {
		o.r.log.Warn("this instance stops mirroring until it has slots again", "slots", (o.working | o.leaving).Len(), "reason", why)
	}
	o.working, o.leaving = 0, 0
	o.cancel()
	if o.timer != nil {
		o.timer.Stop()
	}
	before, done := o.dropped, make(chan struct{})
	o.dropped = done
	go func() { // mu is a leaf
		defer close(done)
		if before != nil {
			<-before
		}
		o.r.loseAll()
		o.changed()
	}()
}

// told waits until the mirrors know of every lease that has ended.
func (o *owner) told() {
	o.mu.Lock()
	dropped := o.dropped
	o.mu.Unlock()
	if dropped != nil {
		<-dropped
	}
}

// watch checks the lease when it is due to expire. If the lease was renewed, watch sets a timer for
// the new end.
func (o *owner) watch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.look(); o.ctx.Err() == nil {
		o.timer = time.AfterFunc(time.Until(o.lease.Until), o.watch)
	}
}

// renew extends the lease: the coordinator has answered a request that this instance sent at the
// time sent.
func (o *owner) renew(sent time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.all && o.ctx.Err() == nil {
		o.lease.Renew(sent, time.Now())
		o.look()
	}
}

// leased reports whether the lease is valid.
func (o *owner) leased() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.look()
	return o.all || o.ctx.Err() == nil
}

// gain begins to work on slots. If the lease has ended it begins a new one, counted from sent; it
// returns false if sent is too long ago for that.
func (o *owner) gain(gained group.SlotSet, sent time.Time) bool {
	o.leased()
	o.told() // work of an earlier lease must not pass for ours again
	o.mu.Lock()
	if o.look(); o.ctx.Err() != nil {
		if !o.lease.Grant(sent, time.Now()) {
			o.mu.Unlock()
			return false
		}
		o.ctx, o.cancel = context.WithCancel(o.r.life)
		o.timer = time.AfterFunc(time.Until(o.lease.Until), o.watch)
	}
	o.working |= gained
	o.leaving &^= gained
	for _, slot := range gained.List() {
		o.terms[slot]++
	}
	o.mu.Unlock()
	o.tell()
	return true
}

// leave ends the work on slots. freed signals when some of them have been given back.
func (o *owner) leave(slots group.SlotSet) {
	o.mu.Lock()
	o.leaving |= o.working & slots
	o.working &^= slots
	o.mu.Unlock()
	o.tell()
}

// lose ends all work at once, as other instances may be given it.
func (o *owner) lose(why string) {
	o.mu.Lock()
	if !o.all && o.ctx.Err() == nil {
		o.drop(why)
	}
	o.mu.Unlock()
	o.told()
}

// close ends the timer, once nothing is worked on.
func (o *owner) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer != nil {
		o.timer.Stop()
	}
}

func (o *owner) tell() {
	o.r.wake()
	o.changed()
}

// busy gives back the slots that are being left, except those in running, in which something still
// runs.
func (o *owner) busy(running group.SlotSet) {
	o.mu.Lock()
	left := o.leaving &^ running
	o.leaving &= running
	o.mu.Unlock()
	if left != 0 {
		select {
		case o.freed <- struct{}{}:
		default:
		}
	}
}

// holding returns the slots that are worked on, and those that are being left.
func (o *owner) holding() (working, leaving group.SlotSet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return group.AllSlots, 0
	}
	o.look()
	return o.working, o.leaving
}

// term returns a number that is different each time this instance gains the slot; 0 = it does not
// work on the slot.
func (o *owner) term(slot int) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return 1
	}
	if o.look(); !o.working.Has(slot) {
		return 0
	}
	return o.terms[slot]
}

func (o *owner) owns(slot int) bool {
	working, leaving := o.holding()
	return (working | leaving).Has(slot)
}

// termsNow returns the terms of all slots.
func (o *owner) termsNow() (terms [group.Slots]uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.all {
		o.look()
	}
	for slot := range group.Slots {
		switch {
		case o.all:
			terms[slot] = 1
		case o.working.Has(slot):
			terms[slot] = o.terms[slot]
		}
	}
	return terms
}

// OwnsTopic reports whether this instance is the coordinator of a mirror, and so may now store
// facts about the mirror as a whole.
func (r *Replicator) OwnsTopic(topic string) bool { return r.owner.owns(group.TopicSlot(topic)) }

// OwnsPartition reports whether this instance owns a partition of a mirror.
func (r *Replicator) OwnsPartition(topic string, partition int32) bool {
	return r.owner.owns(group.PartitionSlot(topic, partition))
}

// OwnsAll reports whether this instance owns all partitions of a mirror.
func (r *Replicator) OwnsAll(topic string) bool {
	m := r.cfg.Control.State().Mirrors[topic]
	working, leaving := r.owner.holding()
	return m != nil && group.SlotsOf(topic, int(m.Partitions))&^(working|leaving) == 0
}

// OwnsLink reports whether this instance owns the slot of a link.
func (r *Replicator) OwnsLink(link string) bool { return r.owner.owns(group.LinkSlot(link)) }

var _ model.Owner = (*Replicator)(nil)

// loseAll gives up all mirrors at once.
func (r *Replicator) loseAll() {
	for _, m := range r.mirrorsNow() {
		m.lose()
	}
	for topic := range r.cfg.Control.State().Timelines {
		r.disown(topic)
	}
	r.wake()
}

// disown marks the timelines of a mirror: no worker of this instance announces appends in them.
func (r *Replicator) disown(topic string) {
	for _, tl := range r.cfg.Control.State().Timelines[topic] {
		tl.Disown()
	}
}

// lose gives up a mirror that another instance may own from now on. It does not settle the appends
// in flight.
func (m *mirror) lose() {
	m.lost.Store(true)
	m.stop(true)
	for _, w := range m.all() {
		w.mu.Lock()
		w.tl.Disown()
		w.mu.Unlock()
	}
}

// followSlots forgets what reconcile remembers of partitions in slots that this instance has gained
// or lost, and marks those in gained slots as inherited. It keeps their last status, which is only
// shown. The state must be at least as new as the owner's fences (look). Only reconcile calls it.
func (r *Replicator) followSlots(st *model.State) {
	var changed, gained group.SlotSet
	for slot, term := range r.seen {
		if term == r.terms[slot] {
			continue
		}
		r.terms[slot] = term
		changed |= 1 << slot
		if term != 0 {
			gained |= 1 << slot
		}
	}
	if changed == 0 {
		return
	}
	for _, of := range []map[partitionAt]bool{r.ran, r.inherited} {
		maps.DeleteFunc(of, func(at partitionAt, _ bool) bool { return changed.Has(at.slot()) })
	}
	maps.DeleteFunc(r.closed, func(at partitionAt, _ closed) bool { return changed.Has(at.slot()) })
	r.reportMu.Lock()
	clear(r.reported)
	r.reportMu.Unlock()
	for topic, am := range st.Mirrors {
		if gained&group.SlotsOf(topic, int(am.Partitions)) == 0 {
			continue
		}
		for p := range am.Partitions {
			if at := (partitionAt{topic, p}); gained.Has(at.slot()) {
				r.inherited[at] = true // a former owner may have appended to it a moment ago
			}
		}
		r.remember(topic, keyOf(am), r.told(topic))
	}
}

// letGo gives back the slots that are being left and in which this round has found nothing running.
func (r *Replicator) letGo(st *model.State) {
	_, leaving := r.owner.holding()
	if leaving == 0 {
		return
	}
	running := r.repairing()
	for _, m := range r.mirrorsNow() {
		for _, w := range m.all() {
			if !w.ended() {
				running |= 1 << w.slot
			}
		}
	}
	for topic, tls := range st.Timelines {
		if leaving&group.SlotsOf(topic, len(tls)) == 0 {
			continue
		}
		for p, tl := range tls {
			if slot := group.PartitionSlot(topic, int32(p)); leaving.Has(slot) && !running.Has(slot) {
				tl.Disown()
			}
		}
	}
	r.owner.busy(running)
}

// needsSource reports whether this instance needs the source of a link: to watch it, or for a
// mirror.
func (r *Replicator) needsSource(link string, st *model.State) bool {
	working, leaving := r.owner.holding()
	if working|leaving == group.AllSlots || working.Has(group.LinkSlot(link)) {
		return true
	}
	for topic, m := range st.Mirrors {
		if m.Link == link && (working|leaving)&group.SlotsOf(topic, int(m.Partitions)) != 0 {
			return true
		}
	}
	return false
}

// takeCopied returns how many bytes were appended in each slot since the last call.
func (r *Replicator) takeCopied() (bytes [group.Slots]int64) {
	for _, m := range r.mirrorsNow() {
		for _, w := range m.all() {
			w.mu.Lock()
			bytes[w.slot] += w.copied
			w.copied = 0
			w.mu.Unlock()
		}
	}
	return bytes
}
