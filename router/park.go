package router

import (
	"context"
	"fmt"
	"time"
)

// awaitMirrors parks a request until the snapshot of mirrors is complete and its lease serves, and
// has it decided again then. When that takes longer than wait, late is carried out instead.
//
// Everything that a mirror changes has to wait: before the snapshot is complete, no one can tell
// which topics are mirrors.
func (s *session) awaitMirrors(wait time.Duration, late func() Decision) Decision {
	r := s.router
	return r.await(wait, late, func() bool { return r.snapshot.Load().Complete && r.lease.Serves() })
}

// awaitFresh is awaitMirrors for requests that need to know what the mirrors are now.
func (s *session) awaitFresh(wait time.Duration, late func() Decision) Decision {
	r := s.router
	return r.await(wait, late, func() bool { return r.snapshot.Load().Complete && r.lease.Fresh() })
}

func (r *Router) await(wait time.Duration, late func() Decision, done func() bool) Decision {
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for {
			published, extended := r.published(), r.lease.extended()
			if done() {
				return Decision{Action: Retry}
			}
			select {
			case <-published:
			case <-extended:
			case <-timer.C:
				return late()
			case <-ctx.Done():
				return Decision{Action: Close, Err: ctx.Err()}
			}
		}
	}}
}

// awaitMirrorsOrClose is awaitMirrors for requests whose answer cannot say "not yet": the client
// connects again, with its own back-off.
func (s *session) awaitMirrorsOrClose() Decision {
	return s.awaitMirrors(snapshotWait, func() Decision { return Decision{Action: Close, Err: s.router.unknown()} })
}

// learnTopics parks a request until the names of these topic ids have been looked up. ids must not
// alias the frame. When the look-up fails, failed is carried out. Clients have their ids from
// Metadata responses that passed through klink, so that seldom one is unknown. A connection that
// has many of them looked up waits: see pace.
func (s *session) learnTopics(ids [][16]byte, failed func(error) Decision) Decision {
	if len(ids) > maxUnknownIDs {
		return Decision{Action: Close, Err: fmt.Errorf("a request with %d unknown topic ids; ask for Metadata first", len(ids))}
	}
	s.parked++
	facts, wait := s.router.facts, s.missed.spend(s.router.desk.now(), len(ids))
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		if wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return failed(ctx.Err())
			}
		}
		if err := facts.LearnTopicIDs(ctx, ids); err != nil {
			return failed(err)
		}
		return Decision{Action: Retry}
	}}
}

const (
	// unknownIDsBurst is how many unknown topic ids one connection has looked up at once. A client
	// that comes back after klink was started may have thousands of topics.
	unknownIDsBurst = maxUnknownIDs
	// unknownIDEvery is how long each further one takes.
	unknownIDEvery = 10 * time.Millisecond
)

// pace spreads what one connection has looked up over time.
type pace struct{ due time.Time }

// spend takes n, and tells how long to wait before they are looked up.
func (p *pace) spend(now time.Time, n int) time.Duration {
	if full := now.Add(-unknownIDsBurst * unknownIDEvery); p.due.Before(full) {
		p.due = full
	}
	p.due = p.due.Add(time.Duration(n) * unknownIDEvery)
	return p.due.Sub(now)
}
