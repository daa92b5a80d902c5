package router

import (
	"context"
	"fmt"
	"time"
)

// awaitMirrors parks a request until the snapshot of mirrors is complete and its lease serves, and
// then retries it. If that takes longer than wait, it carries out late instead.
//
// Every request that a mirror affects must wait: before the snapshot is complete, klink cannot tell
// which topics are mirrors.
func (s *session) awaitMirrors(wait time.Duration, late func() Decision) Decision {
	r := s.router
	return r.await(wait, late, func() bool { return r.snapshot.Load().Complete && r.lease.Serves() })
}

// awaitFresh is awaitMirrors for requests that depend on the current state of the mirrors.
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

// awaitMirrorsOrClose is awaitMirrors for requests whose response cannot express "not yet". It
// closes the connection instead, and the client connects again with its own back-off.
func (s *session) awaitMirrorsOrClose() Decision {
	return s.awaitMirrors(snapshotWait, func() Decision { return Decision{Action: Close, Err: s.router.unknown()} })
}

// learnTopics parks a request until klink has looked up the names of these topic ids. ids must not
// alias the frame. If the look-up fails, it carries out failed. Clients get ids from Metadata
// responses that pass through klink, so an unknown id is rare. A connection that needs many
// look-ups is slowed down: see pace.
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
	// unknownIDsBurst is how many unknown topic ids one connection may have looked up at once. A
	// client that reconnects after a start of klink may have thousands of topics.
	unknownIDsBurst = maxUnknownIDs
	// unknownIDEvery is the time for each further id.
	unknownIDEvery = 10 * time.Millisecond
)

// pace limits the rate of look-ups for one connection.
type pace struct{ due time.Time }

// spend counts n look-ups, and returns how long to wait before making them.
func (p *pace) spend(now time.Time, n int) time.Duration {
	if full := now.Add(-unknownIDsBurst * unknownIDEvery); p.due.Before(full) {
		p.due = full
	}
	p.due = p.due.Add(time.Duration(n) * unknownIDEvery)
	return p.due.Sub(now)
}
