package router

import (
	"sync"
	"sync/atomic"
	"time"
)

// Lease limits how long an instance may use the snapshot of the mirrors that it has read last. The
// control plane maintains it; a session checks it for each request that it decides on.
//
// An instance that cannot read the state topic does not learn that a topic has become a mirror. It
// would forward produces to that topic. Two rules prevent this, and neither is enough alone:
//
//  1. An instance that makes a mirror records it first. Then, before the topic can become a mirror,
//     it waits for every other instance: until that one has reported that it knows the record, or
//     cannot serve any more (admin.Service.awaitSeen).
//  2. An instance serves only while the others must wait for it. That is for a time after its last
//     question to the state topic (Begin, Extend), and as long as the group of instances counts it
//     as a member (Heard).
//
// So the lease decides what an instance may serve:
//   - While the lease serves, a topic that was no mirror at the last read is not one now, and
//     clients may write to it. This holds however old the snapshot is.
//   - While the lease is not fresh, a mirror in the snapshot may have been stopped since. A refusal
//     would be final for its producer, so the producer waits.
//   - When the lease no longer serves, any topic may have become a mirror. The instance knows
//     nothing about mirrors, as when it started.
//
// A lease counts from the time when a question was sent, not from its answer. So a process that was
// suspended for minutes finds its lease ended when it resumes. Both clocks of the machine must
// agree that the lease lasts: the monotonic clock may stand still while a machine is suspended, and
// people can set the wall clock.
//
// A lease that has ended stays ended until Begin. The instance calls Begin only after it has made
// itself known to the others again.
type Lease struct {
	now   func() time.Time // time.Now, except in tests
	times atomic.Pointer[leaseTimes]

	mu     sync.Mutex
	member string        // the member id of the last Heard
	longer chan struct{} // closed and replaced when the lease begins or is extended
}

// leaseTimes are the limits of a lease. They are immutable.
type leaseTimes struct {
	asked  time.Time // when the last answered question was sent; zero = never
	fresh  time.Time // until then the lease is fresh: the snapshot was the newest not long ago
	until  time.Time // until then the lease serves
	member string    // the membership at the time asked; only Heard from it extends until
}

// NewLease makes a lease that has ended.
func NewLease() *Lease {
	l := &Lease{now: time.Now, longer: make(chan struct{})}
	l.times.Store(&leaseTimes{})
	return l
}

// Question is one request for the end offset of the state topic.
type Question struct {
	sent   time.Time
	member string
}

// Ask records the time at which a question is sent. Call it right before sending.
func (l *Lease) Ask() Question {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Question{sent: l.now(), member: l.member}
}

// Begin begins the lease, or extends it. The caller has published everything up to the end that q
// asked for, and had made the instance known to the others before it called Ask.
func (l *Lease) Begin(q Question, ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered(q, ttl, l.now())
}

// Extend extends the lease by q. The caller has published everything up to the end that q asked
// for. It returns false if the lease has ended.
func (l *Lease) Extend(q Question, ttl time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !before(now, l.times.Load().until) {
		return false
	}
	l.answered(q, ttl, now)
	return true
}

func (l *Lease) answered(q Question, ttl time.Duration, now time.Time) {
	was := l.times.Load()
	if q.sent.Before(was.asked) {
		return
	}
	t := &leaseTimes{asked: q.sent, fresh: q.sent.Add(ttl), until: q.sent.Add(ttl), member: q.member}
	if before(now, was.until) && was.until.After(t.until) {
		t.until = was.until
	}
	l.store(t)
}

// Heard extends a lease that serves: the group coordinator has answered a request that this member
// sent at the time sent, so the group counts the member for ttl from then on. Heard makes nothing
// fresh. It has an effect only for the membership that the instance had when it last asked the
// state topic, because the other instances wait for that one.
func (l *Lease) Heard(member string, sent time.Time, ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.member = member
	was := l.times.Load()
	if member == "" || was.member != member || !before(l.now(), was.until) || !sent.Add(ttl).After(was.until) {
		return
	}
	t := *was
	t.until = sent.Add(ttl)
	l.store(&t)
}

func (l *Lease) store(t *leaseTimes) {
	l.times.Store(t)
	close(l.longer)
	l.longer = make(chan struct{})
}

// End ends the lease at once.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times.Store(&leaseTimes{asked: l.times.Load().asked})
}

// Serves reports whether the snapshot may be used.
func (l *Lease) Serves() bool { return l == nil || before(l.now(), l.times.Load().until) }

// Fresh reports whether the snapshot was the newest one not long ago.
func (l *Lease) Fresh() bool {
	if l == nil {
		return true
	}
	t, now := l.times.Load(), l.now()
	return before(now, t.fresh) && before(now, t.until)
}

// Age returns the time since the state topic was last read to its end; false if it never was.
func (l *Lease) Age() (time.Duration, bool) {
	asked := l.times.Load().asked
	return l.now().Sub(asked), !asked.IsZero()
}

// extended returns a channel that is closed when the lease begins or is next extended.
func (l *Lease) extended() <-chan struct{} {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longer
}

// before reports whether now is before until by both clocks, the monotonic one and the wall clock.
func before(now, until time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}
