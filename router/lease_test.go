package router

import (
	"testing"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// leaseWorld is a hotWorld whose router has a lease on a clock that the test turns.
type leaseWorld struct {
	*hotWorld
	lease *Lease
	clock time.Time
}

const leaseTTL = 10 * time.Second

func newLeaseWorld(t testing.TB) *leaseWorld {
	w := &leaseWorld{hotWorld: newHotWorld(t), lease: NewLease(), clock: time.Now()}
	w.lease.now = func() time.Time { return w.clock }
	w.router.SetLease(w.lease)
	return w
}

// read is a read of the state topic to its end.
func (w *leaseWorld) read() { w.lease.Begin(w.lease.Ask(), leaseTTL) }

// Every request that a mirror could change waits while the lease has ended, and proceeds when the
// lease begins again.
func TestRequestsWaitForTheLease(t *testing.T) {
	for key := range int16(protocol.MaxClientKey + 1) {
		api, _ := protocol.Supported(key)
		if handlers[key] == nil {
			continue
		}
		req := kmsg.RequestForKey(key)
		req.SetVersion(min(req.MaxVersion(), api.Max))
		w := newLeaseWorld(t)
		if p, ok := req.(*kmsg.ProduceRequest); ok {
			p.Acks, p.TimeoutMillis = 1, 60000
		}
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 5)
		w.read()
		waited := false
		w.proxy.wait = func() {
			if !waited && !w.lease.Serves() {
				waited = true
				w.read()
			}
		}
		w.proxy.broker = func([]byte) []byte { return nil }
		w.proxy.exchange(frame)
		if waited {
			t.Errorf("key %d waits while the lease lasts", key)
		}
		w.router.snapshot.Store(&Snapshot{}) // find out which keys wait
		if d := w.proxy.session.Request(append([]byte(nil), frame...)); d.Action != Run {
			continue // a key that no mirror affects
		}
		w.router.Publish(hotSnapshot())
		w.clock = w.clock.Add(leaseTTL)
		w.proxy.broker = func([]byte) []byte {
			if !waited {
				t.Errorf("key %d is forwarded though the lease has ended", key)
			}
			return nil
		}
		w.proxy.exchange(frame)
		if !waited {
			t.Errorf("key %d does not wait", key)
		}
	}
}

// The answer to a producer, by the age of the snapshot and by whether the group still counts this
// instance.
func TestProduceUnderALease(t *testing.T) {
	for _, c := range []struct {
		name        string
		since       time.Duration // since the last read
		member      bool          // Heard was called since
		topic       string
		code        int16
		sent, waits bool
	}{
		{"fresh", leaseTTL - 1, false, "ordinary", 0, true, false},
		{"fresh", leaseTTL - 1, false, "mirror", 42, false, false},
		{"fresh", leaseTTL - 1, false, "stopped", 0, true, false},
		{"old", leaseTTL, false, "ordinary", 6, false, true},
		{"old", leaseTTL, false, "mirror", 6, false, true},
		{"old", leaseTTL, false, "stopped", 6, false, true},
		{"old, but the others wait for this one", leaseTTL, true, "ordinary", 0, true, false},
		{"old, but the others wait for this one", leaseTTL, true, "stopped", 0, true, false},
		{"old, but the others wait for this one", leaseTTL, true, "mirror", 6, false, true},
		{"very old, but the others wait for this one", 100 * leaseTTL, true, "ordinary", 0, true, false},
	} {
		for version := int16(3); version <= 13; version++ {
			w := newLeaseWorld(t)
			w.lease.Heard("m", w.clock, 5*time.Second)
			w.read()
			for passed := time.Duration(0); passed < c.since; {
				step := min(time.Second, c.since-passed)
				passed += step
				w.clock = w.clock.Add(step)
				if c.member {
					w.lease.Heard("m", w.clock, 5*time.Second)
				}
			}
			waited := false
			w.proxy.wait = func() { waited = true }
			req := produceTo(version, -1, c.topic)
			req.TimeoutMillis = 1
			var got []string
			resp, _ := send(w.hotWorld, req, accept(&got))
			if code := resp.Topics[0].Partitions[0].ErrorCode; code != c.code || waited != c.waits || (len(got) > 0) != c.sent {
				t.Errorf("%s: v%d to %s: code %d, waited %v, sent %v", c.name, version, c.topic, code, waited, got)
			}
		}
	}
}

// A mirror may have been stopped while the snapshot was old: its producer waits, and then writes.
func TestProduceToAMirrorThatWasStoppedMeanwhile(t *testing.T) {
	w := newLeaseWorld(t)
	w.lease.Heard("m", w.clock, time.Minute)
	w.read()
	w.lease.Heard("m", w.clock, time.Minute)
	w.clock = w.clock.Add(leaseTTL)
	w.proxy.wait = func() {
		sn := hotSnapshot()
		sn.Mirrors["mirror"].ReadOnly = false
		w.router.Publish(sn)
		if q := w.lease.Ask(); !w.lease.Extend(q, leaseTTL) {
			t.Error("a lease that serves cannot be extended")
		}
	}
	var got []string
	if resp, _ := send(w.hotWorld, produceTo(9, -1, "mirror"), accept(&got)); resp.Topics[0].Partitions[0].ErrorCode != 0 || len(got) != 2 {
		t.Errorf("%s, sent %q", describeProduce(resp), got)
	}
}

// A process that was suspended finds its lease ended when it resumes, whatever it hears then.
func TestLease(t *testing.T) {
	const session = 5 * time.Second
	begin := func() *leaseWorld {
		w := newLeaseWorld(t)
		w.lease.Heard("m", w.clock, session)
		w.read()
		return w
	}
	if w := newLeaseWorld(t); w.lease.Serves() || w.lease.Fresh() || w.lease.Extend(w.lease.Ask(), leaseTTL) {
		t.Error("a new lease has begun already")
	}
	for _, c := range []struct {
		name          string
		do            func(*leaseWorld)
		serves, fresh bool
	}{
		{"an answer counts from its question", func(w *leaseWorld) {
			q := w.lease.Ask()
			w.clock = w.clock.Add(leaseTTL - 1)
			w.lease.Extend(q, leaseTTL)
			w.clock = w.clock.Add(1)
		}, false, false},
		{"an answer in time", func(w *leaseWorld) {
			w.clock = w.clock.Add(leaseTTL / 2)
			q := w.lease.Ask()
			w.clock = w.clock.Add(leaseTTL/2 - 1)
			w.lease.Extend(q, leaseTTL)
			w.clock = w.clock.Add(1)
		}, true, true},
		{"an answer after the end", func(w *leaseWorld) {
			w.clock = w.clock.Add(leaseTTL - 1)
			q := w.lease.Ask()
			w.clock = w.clock.Add(1)
			if w.lease.Extend(q, leaseTTL) {
				t.Error("extended after its end")
			}
		}, false, false},
		{"an older answer that comes later", func(w *leaseWorld) {
			old := w.lease.Ask()
			w.clock = w.clock.Add(time.Second)
			w.lease.Extend(w.lease.Ask(), leaseTTL)
			w.lease.Extend(old, leaseTTL)
			w.clock = w.clock.Add(leaseTTL - 1)
		}, true, true},
		{"the group after the end", func(w *leaseWorld) {
			w.clock = w.clock.Add(leaseTTL)
			w.lease.Heard("m", w.clock, session)
		}, false, false},
		{"another membership, which the others do not know of", func(w *leaseWorld) {
			w.clock = w.clock.Add(leaseTTL - 1)
			w.lease.Heard("n", w.clock, session)
			w.clock = w.clock.Add(1)
		}, false, false},
		{"another membership, and a read after it", func(w *leaseWorld) {
			w.lease.Heard("n", w.clock, session)
			w.lease.Extend(w.lease.Ask(), leaseTTL)
			w.clock = w.clock.Add(leaseTTL - 1)
			w.lease.Heard("n", w.clock, session)
			w.clock = w.clock.Add(1)
		}, true, false},
		{"another membership, and a read that was asked for before it", func(w *leaseWorld) {
			q := w.lease.Ask()
			w.lease.Heard("n", w.clock, session)
			w.lease.Extend(q, leaseTTL)
			w.clock = w.clock.Add(leaseTTL - 1)
			w.lease.Heard("n", w.clock, session)
			w.clock = w.clock.Add(1)
		}, false, false},
		{"a membership is no read", func(w *leaseWorld) {
			w.lease.Heard("m", w.clock, time.Hour)
			w.clock = w.clock.Add(leaseTTL)
		}, true, false},
		{"a short membership takes nothing away", func(w *leaseWorld) {
			w.lease.Heard("m", w.clock, 1)
			w.clock = w.clock.Add(leaseTTL - 1)
		}, true, true},
		{"ended", func(w *leaseWorld) {
			w.lease.End()
			w.lease.Heard("m", w.clock, time.Hour)
			w.lease.Extend(w.lease.Ask(), leaseTTL)
		}, false, false},
		{"begun again", func(w *leaseWorld) {
			w.clock = w.clock.Add(leaseTTL)
			w.read()
		}, true, true},
		{"the machine was suspended: only the clock on the wall has moved", func(w *leaseWorld) {
			w.clock = w.clock.Round(0).Add(leaseTTL)
		}, false, false},
	} {
		w := begin()
		c.do(w)
		if w.lease.Serves() != c.serves || w.lease.Fresh() != c.fresh {
			t.Errorf("%s: serves %v, fresh %v", c.name, w.lease.Serves(), w.lease.Fresh())
		}
	}
}

// Every request checks the lease, so the check must be cheap.
func TestLeaseAllocatesNothing(t *testing.T) {
	w := newHotWorld(t)
	lease := NewLease()
	lease.Begin(lease.Ask(), time.Hour)
	w.router.SetLease(lease)
	s := w.proxy.session.(*session)
	if n := testing.AllocsPerRun(100, func() {
		if !s.snapshot().Complete || !lease.Fresh() {
			t.Fatal("ended")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLease(b *testing.B) {
	lease := NewLease()
	lease.Begin(lease.Ask(), time.Hour)
	for b.Loop() {
		if !lease.Serves() {
			b.Fatal("ended")
		}
	}
}
