package router

import (
	"context"
	"fmt"
	"sync/atomic"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// session is the state of one client connection. Only that connection's event loop uses it. A Run
// function captures what it needs from the session before it starts.
type session struct {
	router *Router
	broker int32
	// listener is the one that the client has connected to; see Client. It never changes.
	listener int
	// parked counts how often the current request was answered with Run, so that klink does not ask
	// again and again for a fact that it cannot learn. It returns to 0 as soon as the request is
	// decided.
	parked int
	// sought is true if klink has looked for the offsets of the current request.
	sought bool
	// unsought are partitions of the current request whose offsets klink did not look for, or has
	// not found yet. It is valid while sought is true.
	unsought map[at]bool
	share    share            // this connection's share of the looks into logs; see looks.go
	rights   map[string]right // by topic; see rights.go
	missed   pace             // limits how fast unknown topic ids are looked up; see park.go
	asked    bool             // the broker was asked for the rights that the current request needs
	// proven is true once the broker has shown that it serves this client; see prove.go. Any
	// goroutine may read it.
	proven atomic.Bool
	// fetched is the last fetch session that began on this connection.
	fetched fetchSession
	// Free lists of objects that the hot path reuses.
	produceCalls *produceCall
	fetchStreams *fetchStream
	// moves are the offsets that the current Fetch request asks for; see 01_fetch.go.
	moves []move
}

// Request implements Session.
func (s *session) Request(frame []byte) Decision {
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil {
		return Decision{Action: Close, Err: err}
	}
	if h.Body < 0 {
		if h.Key == int16(kmsg.ApiVersions) {
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

// hot reports whether the handler of an API key allocates nothing. Such a handler uses the session
// for its responses, so those stay on the event loop. They are small, or streams.
func hot(key int16) bool { return key == int16(kmsg.Produce) || key == int16(kmsg.Fetch) }

// then calls last with the final decision: d itself, or the one that d's Run leads to.
func (d Decision) then(last func(Decision) Decision) Decision {
	if d.Action != Run {
		return last(d)
	}
	run := d.Run
	d.Run = func(ctx context.Context) Decision { return run(ctx).then(last) }
	return d
}

// unpark resets the state of a parked request, unless the request is decided again. Run calls it
// off the event loop; that is safe because the proxy holds back later requests while Run is under
// way, so nothing else uses s.parked.
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

// snapshot returns the snapshot by which requests are decided. It is not Complete when the lease
// has ended. Every request that a mirror could change calls it.
func (s *session) snapshot() *Snapshot {
	sn := s.router.snapshot.Load()
	if sn.Complete && !s.router.lease.Serves() {
		return sn.expired
	}
	return sn
}

// newest returns the snapshot by which responses are translated. It ignores the lease, because
// their requests were already let through.
func (s *session) newest() *Snapshot { return s.router.snapshot.Load() }

// closeMalformed closes a connection that sent a malformed request.
func closeMalformed(h protocol.RequestHeader, err error) Decision {
	return Decision{Action: Close, Err: fmt.Errorf("request of API key %d version %d: %w", h.Key, h.Version, err)}
}

// kept returns h without the parts that alias the request frame, for use after the request was
// forwarded.
func kept(h protocol.RequestHeader) protocol.RequestHeader {
	h.ClientID = nil
	return h
}

// closeResponse closes a connection whose response klink cannot read, and so must not pass on.
func closeResponse(h protocol.RequestHeader, err error) Decision {
	return Decision{Action: Close, Err: fmt.Errorf("response of API key %d version %d: %w", h.Key, h.Version, err)}
}
