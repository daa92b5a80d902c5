package router

import (
	"context"
	"fmt"
	"time"
)

// awaitMirrors parks a request until the snapshot of mirrors is complete, and has it decided again then. When that takes
// longer than wait, late is carried out instead.
//
// Everything that a mirror changes has to wait: before the snapshot is complete, no one can tell which topics are
// mirrors.
func (s *session) awaitMirrors(wait time.Duration, late func() Decision) Decision {
	r := s.router
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-r.completed():
			return Decision{Action: Retry}
		case <-timer.C:
			return late()
		case <-ctx.Done():
			return Decision{Action: Close, Err: ctx.Err()}
		}
	}}
}

// awaitMirrorsOrClose is awaitMirrors for requests whose answer cannot say "not yet": the client connects again, with its
// own back-off.
func (s *session) awaitMirrorsOrClose() Decision {
	return s.awaitMirrors(snapshotWait, func() Decision { return Decision{Action: Close, Err: errNoSnapshot} })
}

// learnTopics parks a request until the names of these topic ids have been looked up. ids must not alias the frame.
// When the look-up fails, failed is carried out. Clients have their ids from Metadata responses that passed through
// klink, so that seldom one is unknown.
func (s *session) learnTopics(ids [][16]byte, failed func(error) Decision) Decision {
	if len(ids) > maxUnknownIDs {
		return Decision{Action: Close, Err: fmt.Errorf("a request with %d unknown topic ids; ask for Metadata first", len(ids))}
	}
	s.parked++
	facts := s.router.facts
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		if err := facts.LearnTopicIDs(ctx, ids); err != nil {
			return failed(err)
		}
		return Decision{Action: Retry}
	}}
}
