package router

import (
	"sync"
	"sync/atomic"
	"time"
)

// Lease is how long an instance may go on by the picture of the mirrors that it has read last. The
// control plane keeps it; sessions look at it for each request that they decide on.
//
// An instance that cannot read the state topic does not hear that a topic has become a mirror. It
// would forward produces to that topic. Two rules keep this from happening, and neither is enough
// alone:
//
//  1. Whoever makes a mirror records it first. Then it waits, before the topic can be one, until
//     every other instance has said that it knows the record, or cannot serve any more
//     (admin.Service.awaitSeen).
//  2. An instance serves only while the others have to wait for it. That is so for a time after its
//     last question to the state topic (Begin, Extend), and as long as the group of instances
//     counts it as a member (Heard).
//
// From this follows what may be served:
//   - While the lease serves, a topic that was no mirror at the last read is none now, and may be
//     written. This holds however old the picture is.
//   - While the lease is not fresh, a mirror of the picture may have been stopped since. A refusal
//     would be final for its producer, so the producer waits.
//   - When the lease does not serve any more, any topic may have become a mirror. Nothing is known,
//     as at the start.
//
// A time counts from when a question was sent, not from when it was answered. So a process that was
// stopped for minutes finds its lease ended when it goes on. Both clocks of the machine must say
// that the lease lasts: the monotonic one may stand still while a machine is suspended, and people
// set the other one.
//
// A lease that has ended stays ended until Begin, which comes after the instance has made itself
// known to the others again.
type Lease struct {
	now   func() time.Time // time.Now, but in tests
	times atomic.Pointer[leaseTimes]

	mu     sync.Mutex
	member string        // the last membership that was heard of
	longer chan struct{} // closed, and made anew, when the lease begins or is extended
}

// leaseTimes are immutable.
type leaseTimes struct {
	asked  time.Time // when the question was sent whose answer was read last; zero = never
	fresh  time.Time // the picture is known to have been the newest not long ago
	until  time.Time // the lease serves
	member string    // the membership at the time asked; only it extends until
}

// NewLease makes a lease that has ended.
func NewLease() *Lease {
	l := &Lease{now: time.Now, longer: make(chan struct{})}
	l.times.Store(&leaseTimes{})
	return l
}

// Question is a question for the end of the state topic.
type Question struct {
	sent   time.Time
	member string
}

// Ask notes the time at which a question is sent. It is to be called right before.
func (l *Lease) Ask() Question {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Question{sent: l.now(), member: l.member}
}

// Begin begins the lease, or extends it: everything up to the end that q asked for is published,
// and the instance had made itself known to the others before it asked.
func (l *Lease) Begin(q Question, ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered(q, ttl, l.now())
}

// Extend extends the lease by q; everything up to the end that q asked for is published. False if
// the lease has ended.
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

// Heard says that the coordinator of the group has answered this member something that was sent at
// the time sent. For the time ttl after that the group counts the member. It extends a lease that
// serves, but makes nothing fresh. It counts only for the membership that the instance had when the
// state topic was asked last: the others wait for that one.
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

// Serves says whether the picture may be used.
func (l *Lease) Serves() bool { return l == nil || before(l.now(), l.times.Load().until) }

// Fresh says whether the picture was the newest one not long ago.
func (l *Lease) Fresh() bool {
	if l == nil {
		return true
	}
	t, now := l.times.Load(), l.now()
	return before(now, t.fresh) && before(now, t.until)
}

// Age is for how long the state topic has not been read to its end; false if it never was.
func (l *Lease) Age() (time.Duration, bool) {
	asked := l.times.Load().asked
	return l.now().Sub(asked), !asked.IsZero()
}

// extended is closed when the lease begins or is extended the next time.
func (l *Lease) extended() <-chan struct{} {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longer
}

// before compares by both clocks.
func before(now, until time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}
