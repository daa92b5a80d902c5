package replicator

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"time"

	"klink/admin"
)

// owner knows which slots this instance works on. The group protocol gives them (member); reconcile
// starts and ends mirrors accordingly; the control plane asks before it stores what only an owner
// may say.
//
// Invariants, over all instances of a destination:
//  1. Single writer: a partition of a mirror is appended to by the owner of its slot, within its
//     lease. Every append is sent with the context of the lease (appends), which ends when the
//     lease does. So at most one instance sends.
//  2. A slot is worked on only after it was given in a generation of the group, and the state was
//     fenced (Control.Fence) after that. What a former owner had under way for the state is
//     committed before, and seen, or fails.
//  3. A slot is let go of, in the group, only when none of its partitions runs here: each of their
//     appends has its result, or the log was read back. A lease that ends leaves no time for that:
//     what was sent may still come true, as it may of a process that was killed. The next owner
//     takes that into account (lingering, in resume.go), and hides what comes later still.
//  4. Who does not own a partition announces nothing in its timeline (timeline.Partition.Disown),
//     so that readers here look into the log for what the owner has appended.
//
// mu is a leaf: nothing is called with it held.
type owner struct {
	r   *Replicator
	all bool // there is no group: everything is ours, for good

	mu      sync.Mutex
	lease   lease
	ctx     context.Context // of the lease; ended = there is none
	cancel  context.CancelFunc
	timer   *time.Timer
	working slotSet       // given, and fenced
	leaving slotSet       // to be let go of when nothing runs any more
	terms   [slots]uint64 // how often a slot was gained
	dropped chan struct{} // closed when the mirrors have been told that the lease has ended; nil = it never did
	changed func()
	freed   chan struct{} // leaving has become less; of capacity 1
}

// newOwner makes an owner of nothing, or, where there is no group, of everything.
func newOwner(r *Replicator, group *Group) *owner {
	o := &owner{r: r, all: group == nil, freed: make(chan struct{}, 1), changed: func() {}}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.cancel()
	if group != nil {
		session := cmp.Or(group.SessionTimeout, defaultSession)
		o.lease = lease{session: session, margin: session / 6}
		if group.Changed != nil {
			o.changed = group.Changed
		}
	}
	return o
}

// appends is the context that every append is sent with. It ends with the lease.
func (o *owner) appends() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return o.r.life
	}
	o.look()
	return o.ctx
}

// look ends what the lease ends; mu is held.
func (o *owner) look() {
	if !o.all && o.ctx.Err() == nil && !o.lease.valid(time.Now()) {
		o.drop("the membership of the group could not be renewed in time")
	}
}

// drop ends the lease and with it all work, at once; mu is held.
func (o *owner) drop(why string) {
	o.lease.held = false
	if o.working|o.leaving != 0 && o.r.life.Err() == nil {
		o.r.log.Warn("mirroring stops on this instance, until it has slots again", "slots", (o.working | o.leaving).len(), "reason", why)
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

// told returns when the mirrors know of every lease that has ended.
func (o *owner) told() {
	o.mu.Lock()
	dropped := o.dropped
	o.mu.Unlock()
	if dropped != nil {
		<-dropped
	}
}

// watch looks at the lease when it is to end.
func (o *owner) watch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.look(); o.ctx.Err() == nil {
		o.timer = time.AfterFunc(time.Until(o.lease.until), o.watch)
	}
}

// renew takes that the coordinator has heard of this instance after the time sent.
func (o *owner) renew(sent time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.all && o.ctx.Err() == nil {
		o.lease.renew(sent, time.Now())
		o.look()
	}
}

// leased says whether the lease lasts.
func (o *owner) leased() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.look()
	return o.all || o.ctx.Err() == nil
}

// gain begins to work on slots; false if the coordinator has not heard of this instance for too
// long.
func (o *owner) gain(gained slotSet, sent time.Time) bool {
	o.leased()
	o.told() // nothing of before may be taken for ours again
	o.mu.Lock()
	if o.look(); o.ctx.Err() != nil {
		if !o.lease.grant(sent, time.Now()) {
			o.mu.Unlock()
			return false
		}
		o.ctx, o.cancel = context.WithCancel(o.r.life)
		o.timer = time.AfterFunc(time.Until(o.lease.until), o.watch)
	}
	o.working |= gained
	o.leaving &^= gained
	for _, slot := range gained.list() {
		o.terms[slot]++
	}
	o.mu.Unlock()
	o.tell()
	return true
}

// leave ends the work on slots; freed tells when something has ended.
func (o *owner) leave(slots slotSet) {
	o.mu.Lock()
	o.leaving |= o.working & slots
	o.working &^= slots
	o.mu.Unlock()
	o.tell()
}

// lose ends all work at once: others may be given it.
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

// busy says in which slots something still runs; those that are being left and are not among them
// are let go of.
func (o *owner) busy(running slotSet) {
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

// holding is the slots that are worked on, and those being left.
func (o *owner) holding() (working, leaving slotSet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return allSlots, 0
	}
	o.look()
	return o.working, o.leaving
}

// term tells apart the times at which a slot was owned; 0 = it is not.
func (o *owner) term(slot int) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all {
		return 1
	}
	if o.look(); !o.working.has(slot) {
		return 0
	}
	return o.terms[slot]
}

func (o *owner) owns(slot int) bool {
	working, leaving := o.holding()
	return (working | leaving).has(slot)
}

// termsNow is term of all slots.
func (o *owner) termsNow() (terms [slots]uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.all {
		o.look()
	}
	for slot := range slots {
		switch {
		case o.all:
			terms[slot] = 1
		case o.working.has(slot):
			terms[slot] = o.terms[slot]
		}
	}
	return terms
}

// OwnsTopic says whether this instance is the coordinator of a mirror, and may say something about
// it as a whole right now.
func (r *Replicator) OwnsTopic(topic string) bool { return r.owner.owns(topicSlot(topic)) }

// OwnsPartition is OwnsTopic for a partition of a mirror.
func (r *Replicator) OwnsPartition(topic string, partition int32) bool {
	return r.owner.owns(partitionSlot(topic, partition))
}

// OwnsAll says whether this instance owns all partitions of a mirror.
func (r *Replicator) OwnsAll(topic string) bool {
	m := r.cfg.Control.State().Mirrors[topic]
	working, leaving := r.owner.holding()
	return m != nil && slotsOf(topic, int(m.Partitions))&^(working|leaving) == 0
}

// OwnsLink is OwnsTopic for a link.
func (r *Replicator) OwnsLink(link string) bool { return r.owner.owns(linkSlot(link)) }

var _ admin.Owner = (*Replicator)(nil)

// loseAll gives all mirrors up at once.
func (r *Replicator) loseAll() {
	for _, m := range r.mirrorsNow() {
		m.lose()
	}
	for topic := range r.cfg.Control.State().Timelines {
		r.disown(topic)
	}
	r.wake()
}

// disown says that nobody here announces what is appended to a mirror.
func (r *Replicator) disown(topic string) {
	for _, tl := range r.cfg.Control.State().Timelines[topic] {
		tl.Disown()
	}
}

// lose gives a mirror up that another instance may own from now on. What is in flight is not
// settled.
func (m *mirror) lose() {
	m.lost.Store(true)
	m.stop(true)
	for _, w := range m.all() {
		w.mu.Lock()
		w.tl.Disown()
		w.mu.Unlock()
	}
}

// followSlots lets what is remembered of partitions follow the slots, but for what was last seen of
// them, which is only shown; the state is at least as new as the owner's fences (look). Only
// reconcile calls it.
func (r *Replicator) followSlots(st *admin.State) {
	var changed, gained slotSet
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
		maps.DeleteFunc(of, func(at partitionAt, _ bool) bool { return changed.has(at.slot()) })
	}
	maps.DeleteFunc(r.closed, func(at partitionAt, _ closed) bool { return changed.has(at.slot()) })
	r.reportMu.Lock()
	clear(r.reported)
	r.reportMu.Unlock()
	for topic, am := range st.Mirrors {
		if gained&slotsOf(topic, int(am.Partitions)) == 0 {
			continue
		}
		for p := range am.Partitions {
			if at := (partitionAt{topic, p}); gained.has(at.slot()) {
				r.inherited[at] = true // a former owner may have appended to it a moment ago
			}
		}
		r.remember(topic, keyOf(am), r.told(topic))
	}
}

// letGo ends what this round has found to have ended in the slots that are being left.
func (r *Replicator) letGo(st *admin.State) {
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
		if leaving&slotsOf(topic, len(tls)) == 0 {
			continue
		}
		for p, tl := range tls {
			if slot := partitionSlot(topic, int32(p)); leaving.has(slot) && !running.has(slot) {
				tl.Disown()
			}
		}
	}
	r.owner.busy(running)
}

// needsSource says whether the source of a link is needed here: to watch it, or for a mirror.
func (r *Replicator) needsSource(link string, st *admin.State) bool {
	working, leaving := r.owner.holding()
	if working|leaving == allSlots || working.has(linkSlot(link)) {
		return true
	}
	for topic, m := range st.Mirrors {
		if m.Link == link && (working|leaving)&slotsOf(topic, int(m.Partitions)) != 0 {
			return true
		}
	}
	return false
}
