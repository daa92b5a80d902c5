package router

import (
	"errors"
	"sync/atomic"

	"klink/protocol"
)

// Router makes sessions and holds the snapshots they read. Its Publish methods may be called from any goroutine.
type Router struct {
	snapshot  atomic.Pointer[Snapshot]
	directory Directory
	control   Control
	facts     Facts
}

// New makes a router with an incomplete snapshot: produces park until the first Publish.
func New(control Control, facts Facts) *Router {
	r := &Router{control: control, facts: facts}
	r.snapshot.Store(&Snapshot{})
	return r
}

// Publish replaces the snapshot of mirrors.
func (r *Router) Publish(s *Snapshot) { r.snapshot.Store(s) }

// Directory is where brokers and topic ids are looked up and published.
func (r *Router) Directory() *Directory { return &r.directory }

// NewSession implements Sessions.
func (r *Router) NewSession(broker int32) Session { return &session{router: r, broker: broker} }

// session is the state of one client connection.
type session struct {
	router *Router
	broker int32
}

// handler decides on one request of one API key. frame is whole, h.Body is where its body begins.
type handler func(s *session, h protocol.RequestHeader, frame []byte) Decision

// handlers by API key. Each file that serves a key registers it in an init function; a key of the API table without a
// handler is forwarded untouched.
var handlers = map[int16]handler{}

func register(key int16, h handler) { handlers[key] = h }

// errUnknownAPI closes a connection that sends a key or version that was not offered in ApiVersions, as a broker does.
var errUnknownAPI = errors.New("API key or version not offered")

func (s *session) Closed() {}

func (s *session) snapshot() *Snapshot { return s.router.snapshot.Load() }
