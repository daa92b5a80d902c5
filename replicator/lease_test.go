package replicator

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"klink/admin/model"
	"klink/protocol/timeline"
	"klink/replicator/group"

	"pgregory.net/rapid"
)

// TestLeaseEndsBeforeTheSession: the lease has ended before the coordinator, which counts from the
// last request that it received, gives the member up. This holds whatever is answered when, and
// however long requests and answers take.
func TestLeaseEndsBeforeTheSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const session = 6 * time.Second
		l := group.Lease{Session: session, Margin: time.Second}
		now := time.Unix(1000, 0)
		var heard time.Time // by the coordinator, last
		begun, lapsed := false, false
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "pause")) * time.Millisecond)
			sent := now
			there := sent.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "request")) * time.Millisecond)
			if begun && !there.Before(heard.Add(session)) {
				break // given up: there is no answer that renews
			}
			heard = there
			now = there.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "answer")) * time.Millisecond)
			if !begun {
				begun = l.Grant(sent, now)
				continue
			}
			lapsed = lapsed || !l.Valid(now)
			l.Renew(sent, now)
			if lapsed && l.Valid(now) {
				t.Fatal("a lease that had ended goes on")
			}
			if l.Valid(now) && !now.Before(heard.Add(session)) {
				t.Fatal("the lease outlives the session")
			}
		}
		for at := now; at.Before(now.Add(3 * session)); at = at.Add(100 * time.Millisecond) {
			if l.Valid(at) && !at.Add(l.Margin).Before(heard.Add(session).Add(time.Millisecond)) {
				t.Fatalf("%v after it was heard last the lease lasts still", at.Sub(heard))
			}
		}
	})
}

func bareReplicator(t *testing.T) *Replicator {
	r, err := New(Config{Control: newFakeControl(), Group: &Group{SessionTimeout: 6 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	r.life = t.Context()
	return r
}

// follow runs the beginning of a round.
func follow(r *Replicator, st *model.State) {
	r.look()
	r.followSlots(st)
}

// TestOwnerStopsWithItsLease: work ends when the lease ends without a renewal, even if nothing
// checks the lease. An answer that comes late does not start it again; newly gained slots do.
func TestOwnerStopsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		o := r.owner
		defer o.close()
		if o.owns(3) || o.appends().Err() == nil {
			t.Fatal("owned before anything was given")
		}
		begin := time.Now()
		if !o.gain(group.AllSlots, begin) {
			t.Fatal("not gained")
		}
		first := o.appends()
		time.Sleep(4 * time.Second)
		o.renew(begin.Add(3 * time.Second)) // until 8 s
		time.Sleep(3900 * time.Millisecond)
		synctest.Wait()
		if first.Err() != nil || o.term(3) != 1 {
			t.Fatal("ended too early")
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if first.Err() == nil {
			t.Fatal("appends may be sent although the lease has ended")
		}
		o.renew(time.Now())
		if o.owns(3) || o.term(3) != 0 || o.appends().Err() == nil || r.OwnsTopic("orders") {
			t.Fatal("a late answer has begun it again")
		}
		if o.gain(1<<3, time.Now().Add(-5*time.Second)) {
			t.Fatal("gained with what was said long ago")
		}
		if !o.gain(1<<3, time.Now()) || o.term(3) != 2 || o.term(4) != 0 || first.Err() == nil || o.appends().Err() != nil {
			t.Fatalf("term %d, %d", o.term(3), o.term(4))
		}
		o.lose("test")
		if o.owns(3) || o.appends().Err() == nil {
			t.Fatal("owned after it was lost")
		}
	})
}

// TestLeavingWaitsForMirrors: a slot is let go of only when none of its partitions runs here.
func TestLeavingWaitsForMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		o := r.owner
		defer o.close()
		o.gain(0b111, time.Now())
		o.leave(0b110)
		if o.term(0) == 0 || o.term(1) != 0 || !o.owns(1) {
			t.Fatal("a slot that is left is worked on, or may not be settled")
		}
		o.busy(0b010)
		if _, leaving := o.holding(); leaving != 0b010 || o.owns(2) {
			t.Fatalf("%b", leaving)
		}
		select {
		case <-o.freed:
		default:
			t.Fatal("nobody is told")
		}
		o.busy(0)
		if working, leaving := o.holding(); working != 1 || leaving != 0 || o.owns(1) {
			t.Fatalf("%b %b", working, leaving)
		}
	})
}

// TestWhatWasSeenOutlivesTheSlot: when a slot comes back, a mirror in it shows its last known
// status until the source answers: what this instance saw last, or what a later owner has
// published, whichever is later.
func TestWhatWasSeenOutlivesTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		defer r.owner.close()
		b := newBoard(r)
		r.board.Store(b)
		am := &model.Mirror{Topic: "orders", Partitions: 2}
		st := &model.State{Mirrors: map[string]*model.Mirror{"orders": am}}
		r.inherited = map[partitionAt]bool{}
		r.owner.gain(group.AllSlots, time.Now())
		follow(r, st)
		began := time.Now()
		r.remember("orders", keyOf(am), []model.PartitionStatus{{SourceEnd: 10, LastFetch: began}, {SourceEnd: 20, LastFetch: began.Add(2 * time.Second)}})
		regain := func() []model.PartitionStatus {
			r.owner.lose("test")
			follow(r, st)
			r.owner.gain(group.AllSlots, time.Now())
			follow(r, st)
			return r.Status("orders")
		}
		if got := regain(); len(got) != 2 || got[0].SourceEnd != 10 || got[1].SourceEnd != 20 {
			t.Fatalf("%+v", got)
		}
		b.hear(st, "mirror/orders/0", fmt.Appendf(nil, `{"version":2,"ids":[0,1],"partitions":[[15,9,%d,15,0,0,-1,0],[19,9,%[1]d,19,0,0,-1,0]]}`, began.Add(time.Second).UnixMilli()), time.Now())
		got := regain()
		if len(got) != 2 || got[0].SourceEnd != 15 || got[1].SourceEnd != 20 {
			t.Fatalf("%+v", got)
		}
		r.mu.Lock()
		before := r.last["orders"].partitions
		r.mu.Unlock()
		m := &mirror{mirrorKey: keyOf(am), r: r, before: before}
		w := newWorker(m, 0, timeline.New(0, 0, 0))
		if s := w.status(); s.SourceEnd != 15 || s.LastFetch.IsZero() {
			t.Errorf("before the source answers: %+v", s)
		}
		w.lastFetch, w.core.SourceEnd = time.Now(), 16
		if s := w.status(); s.SourceEnd != 16 {
			t.Errorf("after that: %+v", s)
		}
		again := *am
		again.TopicID[0] = 1
		r.remember("orders", keyOf(&again), []model.PartitionStatus{{SourceEnd: 1}})
		if got := r.Status("orders"); len(got) != 1 || got[0].SourceEnd != 1 {
			t.Errorf("of a mirror made anew: %+v", got)
		}
	})
}

// TestFormerOwnersAreReckonedWith: an instance forgets what it knows of a mirror when it loses the
// slot. When it gains a slot, it assumes that somebody else has just appended to the mirrors in it.
func TestFormerOwnersAreReckonedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		defer r.owner.close()
		st := &model.State{Mirrors: map[string]*model.Mirror{"orders": {Topic: "orders", Partitions: 1}}}
		at := partitionAt{topic: "orders"}
		r.inherited = map[partitionAt]bool{}
		r.owner.gain(group.AllSlots, time.Now())
		follow(r, st)
		if !r.inherited[at] {
			t.Fatal("not inherited")
		}
		r.inherited, r.ran[at], r.closed[at] = map[partitionAt]bool{}, true, closed{}
		follow(r, st)
		if !r.ran[at] {
			t.Fatal("forgotten without a reason")
		}
		r.owner.lose("test")
		follow(r, st)
		if r.ran[at] || len(r.closed) > 0 || r.inherited[at] {
			t.Fatal("remembered after it was lost")
		}
		r.owner.gain(group.AllSlots, time.Now())
		follow(r, st)
		if !r.inherited[at] {
			t.Fatal("not inherited")
		}
	})
}

// lateGain is a control plane that gives slots while its state is being read.
type lateGain struct {
	*fakeControl
	r    *Replicator
	once sync.Once
}

func (c *lateGain) State() *model.State {
	st := c.fakeControl.State()
	c.once.Do(func() { c.r.owner.gain(group.AllSlots, time.Now()) })
	return st
}

// TestARoundIsAsNewAsItsSlots: slots that are given while the state is being read are worked on in
// the next round. The state of this round may lack what was fenced for them, such as that a mirror
// is being stopped.
func TestARoundIsAsNewAsItsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		defer r.owner.close()
		r.cfg.Control = &lateGain{fakeControl: r.cfg.Control.(*fakeControl), r: r}
		r.look()
		if r.term(3) != 0 || len(r.share("orders", 5)) > 0 {
			t.Error("worked on with a state that may be older")
		}
		r.look()
		if r.term(3) == 0 || len(r.share("orders", 5)) != 5 {
			t.Error("not worked on in the next round")
		}
		r.owner.lose("test")
		if r.term(3) != 0 {
			t.Error("worked on after it was lost")
		}
	})
}
