package replicator

import (
	"testing"
	"testing/synctest"
	"time"

	"klink/admin"

	"pgregory.net/rapid"
)

// TestLeaseEndsBeforeTheSession: whatever is answered when, and however long requests and answers are under way, the lease has
// ended by the time at which the coordinator, which counts from when it heard last, gives the member up.
func TestLeaseEndsBeforeTheSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const session = 6 * time.Second
		l := lease{session: session, margin: time.Second}
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
				begun = l.grant(sent, now)
				continue
			}
			lapsed = lapsed || !l.valid(now)
			l.renew(sent, now)
			if lapsed && l.valid(now) {
				t.Fatal("a lease that had ended goes on")
			}
			if l.valid(now) && !now.Before(heard.Add(session)) {
				t.Fatal("the lease outlives the session")
			}
		}
		for at := now; at.Before(now.Add(3 * session)); at = at.Add(100 * time.Millisecond) {
			if l.valid(at) && !at.Add(l.margin).Before(heard.Add(session).Add(time.Millisecond)) {
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

// TestOwnerStopsWithItsLease: work ends at the time by which the lease was not renewed, without anything having to be looked
// at, and is not taken up again by an answer that comes late, but by slots that are gained anew.
func TestOwnerStopsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		o := r.owner
		defer o.close()
		if o.owns(3) || o.appends().Err() == nil {
			t.Fatal("owned before anything was given")
		}
		begin := time.Now()
		if !o.gain(allSlots, begin) {
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

// TestLeavingWaitsForMirrors: a slot is let go of only when nothing runs in it.
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

// TestFormerOwnersAreReckonedWith: what is known of a mirror is forgotten when its slot is lost, and a mirror that is there when
// a slot is gained is taken for one that somebody else has appended to a moment ago.
func TestFormerOwnersAreReckonedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := bareReplicator(t)
		defer r.owner.close()
		st := &admin.State{Mirrors: map[string]*admin.Mirror{"orders": {Topic: "orders"}}}
		r.inherited = map[string]bool{}
		r.owner.gain(allSlots, time.Now())
		r.followSlots(st)
		if !r.inherited["orders"] {
			t.Fatal("not inherited")
		}
		r.inherited, r.ran["orders"], r.closed["orders"] = map[string]bool{}, true, true
		r.ends["orders"] = ends{}
		r.last["orders"] = lastStatus{partitions: []admin.PartitionStatus{{}}}
		r.followSlots(st)
		if !r.ran["orders"] {
			t.Fatal("forgotten without a reason")
		}
		r.owner.lose("test")
		r.followSlots(st)
		if r.ran["orders"] || r.closed["orders"] || len(r.ends)+len(r.last) > 0 || r.inherited["orders"] {
			t.Fatal("remembered after it was lost")
		}
		r.owner.gain(allSlots, time.Now())
		r.followSlots(st)
		if !r.inherited["orders"] {
			t.Fatal("not inherited")
		}
	})
}
