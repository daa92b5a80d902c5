// Package router decides what happens to every Kafka request that a client sends through klink:
// forward it, forward it and rewrite what comes back, answer it here, or close the connection. It
// works on frames and immutable snapshots; on the hot path it does no I/O and takes no locks.
// Sockets belong to package proxy, links and mirrors to package admin.
package router

import "context"

// Action says what the proxy does with a Decision.
type Action uint8

const (
	// Forward sends Decision.Frame upstream. The response is passed through as it comes when both
	// Stream and Whole are nil.
	Forward Action = iota
	// Answer sends Decision.Frame to the client, after the responses of all earlier requests.
	Answer
	// Run calls Decision.Run on a goroutine of its own and then carries out the decision that it
	// returns.
	Run
	// Retry asks Session.Request again with the same frame. Only Decision.Run may return it: it is
	// the second half of "park", used when a fact (a topic id, a broker) had to be fetched first.
	Retry
	// Drop consumes the request without a response (acks=0).
	Drop
	// Close ends the client connection for the reason Decision.Err, after what was answered before
	// has been flushed.
	Close
)

// Upstream names the cluster that a request goes to. Today it is always Destination; nothing may
// assume that there is only one.
type Upstream uint8

// Destination is the cluster behind the proxy.
const Destination Upstream = 0

// Decision is the verdict on one request, or on one response (Whole).
//
// Frames always include their 4-byte big-endian size prefix.
type Decision struct {
	Action   Action
	Upstream Upstream
	// Frame is the frame to send: upstream for Forward, to the client for Answer. It may alias the
	// frame given to Session.Request (patched in place). The proxy does not change it, and has
	// consumed or copied it before the next call to the session.
	Frame []byte
	// Stream rewrites the response to a forwarded request while its bytes pass.
	Stream Stream
	// Whole is given the complete response frame, on the event loop. The frame belongs to Whole's
	// decision until that decision is carried out (Answer, Run, Forward of a follow-up, or Close).
	// Use it for small responses only.
	Whole func(frame []byte) Decision
	// NoResponse marks a forwarded request that the broker does not answer (Produce with acks=0).
	NoResponse bool
	// Exclusive holds back all later requests of the connection until this one has been answered,
	// as a broker does that mutes the channel.
	Exclusive bool
	// Run does slow work off the event loop. ctx ends when the client connection goes or the proxy
	// stops.
	Run func(ctx context.Context) Decision
	// Err is the reason for Close; it is logged and counted.
	Err error
}

// Stream rewrites one response while it passes.
//
// Next is given the bytes of the response frame in order, from its size prefix on, in pieces of any
// size. It may change p in place and returns the bytes to send on: first head, then tail. head
// holds bytes that were held back earlier (valid until the next call), tail is a part of p. A
// Stream holds back less than 256 bytes and never changes the length of the frame. An error closes
// the connection.
type Stream interface {
	Next(p []byte) (head, tail []byte, err error)
}

// Session is the routing state of one client connection. All its methods, and the Whole functions
// of its decisions, are called on the event loop of that connection, one at a time.
type Session interface {
	// Request decides on one request frame (with its size prefix). frame may be changed in place.
	// It is valid during the call, and if the decision is Run or Forward with it as Frame, until
	// that has been carried out; for Run that is until the decision that Run returned was carried
	// out.
	Request(frame []byte) Decision
	// Proven is true once the broker has shown that it serves this client: the login is done, where
	// there is one. Every request but ApiVersions, SaslHandshake and SaslAuthenticate brings that
	// about before it is decided. It never becomes false again. It may be called from any
	// goroutine.
	Proven() bool
	// Prove decides what to do for the proof while there is no request, for example because the
	// next one is too large to be read before it. The decision is carried out like that on a
	// request. It ends in Drop once Proven is true, and in Close if the broker does not serve the
	// client.
	Prove() Decision
	// Closed tells the session that its connection is gone.
	Closed()
}

// Sessions makes a Session for each accepted connection.
type Sessions interface {
	// NewSession starts a session on the listener of the broker with this id; BootstrapID for the
	// bootstrap listener.
	NewSession(broker int32) Session
}

// BootstrapID is the broker id of the bootstrap listener, which leads to any broker of the
// destination.
const BootstrapID int32 = -1
