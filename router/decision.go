package router

import "context"

// Action says what the proxy does with a Decision.
type Action uint8

const (
	// Forward sends Decision.Frame upstream. If both Stream and Whole are nil, the proxy passes the
	// response through unchanged.
	Forward Action = iota
	// Answer sends Decision.Frame to the client, after the responses of all earlier requests.
	Answer
	// Run calls Decision.Run on its own goroutine and then carries out the decision that it
	// returns.
	Run
	// Retry calls Session.Request again with the same frame. Only Decision.Run may return it, after
	// it has fetched a fact (a topic id, a broker) that the request was parked for.
	Retry
	// Drop consumes the request without a response (acks=0).
	Drop
	// Close delivers the answers to earlier requests, then closes the client connection.
	// Decision.Err is the reason.
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
	// frame given to Session.Request (patched in place). The proxy does not change it, and consumes
	// or copies it before it calls the session again.
	Frame []byte
	// Stream rewrites the response to a forwarded request as its bytes pass through.
	Stream Stream
	// Whole receives the complete response frame, on the event loop. The frame belongs to the
	// decision that Whole returns until that decision (Answer, Run, Forward of a follow-up, or
	// Close) is carried out. Use it for small responses only.
	Whole func(frame []byte) Decision
	// NoResponse marks a forwarded request that the broker does not answer (Produce with acks=0).
	NoResponse bool
	// Exclusive holds back all later requests of the connection until this one has been answered,
	// as a broker does when it mutes the channel.
	Exclusive bool
	// Run does slow work off the event loop. ctx ends when the client connection closes or the
	// proxy stops.
	Run func(ctx context.Context) Decision
	// Err is the reason for Close; it is logged and counted.
	Err error
}

// Stream rewrites one response as it passes through.
//
// Next receives the bytes of the response frame in order, starting with its size prefix, in pieces
// of any size. It may change p in place. It returns the bytes to send on: first head, then tail.
// head holds bytes that earlier calls held back, and is valid until the next call; tail is a part
// of p. A Stream holds back less than 256 bytes and never changes the length of the frame. An error
// closes the connection.
type Stream interface {
	Next(p []byte) (head, tail []byte, err error)
}

// Session is the routing state of one client connection. The proxy calls its methods, and the Whole
// functions of its decisions, on the event loop of that connection, one at a time.
type Session interface {
	// Request decides on one request frame (with its size prefix). It may change frame in place.
	// frame is valid during the call. If the decision is Run, or Forward with frame as its Frame,
	// frame stays valid until that decision is carried out; for Run this includes the decision that
	// Run returns.
	Request(frame []byte) Decision
	// Proven reports whether the broker has shown that it serves this client: the client has logged
	// in, if the cluster requires a login. Every request except ApiVersions, SaslHandshake and
	// SaslAuthenticate triggers that proof before it is decided. Proven never becomes false again.
	// Any goroutine may call it.
	Proven() bool
	// Prove starts the proof when no request can trigger it, for example because the next request
	// is too large to be read before the proof. The proxy carries out the decision like one on a
	// request. It ends in Drop once Proven is true, and in Close if the broker does not serve the
	// client.
	Prove() Decision
	// Closed tells the session that its connection is closed.
	Closed()
}

// Sessions makes a Session for each accepted connection.
type Sessions interface {
	// NewSession starts a session for a connection.
	NewSession(c Client) Session
}

// Client is what the proxy knows of a client when its connection opens.
type Client struct {
	// Listener is the place of the listener that the client has connected to among all listeners of
	// the proxy. Addresses in responses are those of this listener.
	Listener int
	// Broker is the id of the broker whose port the client has connected to; BootstrapID stands for
	// the bootstrap port.
	Broker int32
}

// BootstrapID is the broker id of the bootstrap listener, which leads to any broker of the
// destination.
const BootstrapID int32 = -1
