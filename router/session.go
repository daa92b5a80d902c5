package router

import (
	"context"
	"fmt"
	"sync/atomic"

	"klink/protocol"
)

// session is the state of one client connection. It is used on that connection's event loop only;
// what a Run function needs of it is captured before.
type session struct {
	router *Router
	broker int32
	// parked counts how often the request at hand has been answered with Run, so that a fact which
	// cannot be learned is not asked for again and again. It is 0 again as soon as a request is
	// decided.
	parked int
	// sought is true if the offsets of the request at hand have been looked for.
	sought bool
	// unsought are partitions of the request at hand whose offsets were not looked for, or not
	// found yet. It counts while sought is true.
	unsought map[at]bool
	share    share            // of the looks into logs; see looks.go
	rights   map[string]right // by topic; see rights.go
	missed   pace             // of the unknown topic ids that are looked up
	asked    bool             // the broker has been asked for rights of the request at hand
	// proven is true once the broker has shown that it serves this client; see prove.go. Other
	// goroutines read it.
	proven atomic.Bool
	// fetched is the fetch session of the connection.
	fetched fetchSession
	// Free lists, of what the hot path uses again.
	produceCalls *produceCall
	fetchStreams *fetchStream
}

// Request implements Session.
func (s *session) Request(frame []byte) Decision {
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil {
		return Decision{Action: Close, Err: err}
	}
	if h.Body < 0 {
		if h.Key == keyApiVersions {
			return s.apiVersions(h, frame)
		}
		return Decision{Action: Close, Err: fmt.Errorf("%w: key %d version %d", errUnknownAPI, h.Key, h.Version)}
	}
	if !s.proven.Load() && !beforeLogin(h.Key) {
		return s.proveFirst(h, frame)
	}
	if d, refused := refuseFollower(h, frame); refused {
		return d
	}
	if err := protocol.CheckCrowd(h, frame); err != nil {
		return closeMalformed(h, err)
	}
	handle := guardIDs(h, frame, *handlerSlot(h.Key))
	if handle == nil {
		return Decision{Action: Forward, Frame: frame}
	}
	d := handle(s, h, frame)
	if d.Whole != nil && !hot(h.Key) {
		d.Whole = largeOffLoop(d.Whole)
	}
	if d.Action == Run {
		return d.then(s.unpark)
	}
	s.parked, s.sought = 0, false
	return d
}

// hot says of an API key that its handler allocates nothing, and uses the session for its
// responses, which so stay on the event loop. They are small, or streams.
func hot(key int16) bool { return key == 0 || key == 1 }

// then has last look at the decision that d comes to in the end: d itself, or what its Run leads
// to.
func (d Decision) then(last func(Decision) Decision) Decision {
	if d.Action != Run {
		return last(d)
	}
	run := d.Run
	d.Run = func(ctx context.Context) Decision { return run(ctx).then(last) }
	return d
}

// unpark makes s forget that a request was parked, unless it is to be decided on again. It is
// called off the event loop too: the proxy holds back later requests while Run is under way, so
// that nothing else uses s.parked.
func (s *session) unpark(d Decision) Decision {
	if d.Action != Retry {
		s.parked, s.sought = 0, false
	}
	return d
}

// Proven implements Session.
func (s *session) Proven() bool { return s.proven.Load() }

// Closed implements Session.
func (s *session) Closed() {}

// snapshot is what requests are decided by. It is not Complete when the lease has ended; every
// request that a mirror could change asks here.
func (s *session) snapshot() *Snapshot {
	sn := s.router.snapshot.Load()
	if sn.Complete && !s.router.lease.Serves() {
		return sn.expired
	}
	return sn
}

// newest is the snapshot that responses are translated by. Their requests were let pass already.
func (s *session) newest() *Snapshot { return s.router.snapshot.Load() }

// closeMalformed closes a connection whose request of this key cannot be read.
func closeMalformed(h protocol.RequestHeader, err error) Decision {
	return Decision{Action: Close, Err: fmt.Errorf("request of API key %d version %d: %w", h.Key, h.Version, err)}
}
