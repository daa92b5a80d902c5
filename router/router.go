package router

import (
	"errors"
	"sync"
	"sync/atomic"

	"klink/protocol"
	"klink/protocol/linkapi"
)

// Router makes sessions and holds the snapshots they read. Its Publish methods may be called from
// any goroutine.
type Router struct {
	snapshot  atomic.Pointer[Snapshot]
	lease     *Lease // nil = it never ends
	linkAdmin LinkAdmin
	directory Directory
	control   Control
	facts     Facts
	rejected  atomic.Int64 // see RejectedProduces
	voided    atomic.Int64 // see VoidedBatches
	looks     atomic.Int64 // see Probes
	desk      *desk        // hands out the looks

	mu       sync.Mutex
	complete chan struct{} // closed when a snapshot that is complete takes the place of one that is not
}

// New makes a router with an incomplete snapshot: produces park until the first Publish.
func New(control Control, facts Facts) *Router {
	r := &Router{control: control, facts: facts, complete: make(chan struct{}), desk: newDesk()}
	r.snapshot.Store(&Snapshot{})
	return r
}

// SetLease sets for how long a snapshot may be used. It is set before the first session is made;
// without it a snapshot is used for ever.
func (r *Router) SetLease(l *Lease) { r.lease = l }

// SetLinkAdmin sets what clients may do with links and mirrors. It is set before the first session
// is made; without it they may do all that the broker's authorizer allows.
func (r *Router) SetLinkAdmin(a LinkAdmin) { r.linkAdmin = a }

// Publish replaces the snapshot of mirrors. The snapshot belongs to the router from now on.
func (r *Router) Publish(s *Snapshot) {
	s.index()
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.snapshot.Load()
	s.follow(before)
	s.expire()
	r.snapshot.Store(s)
	if s.Complete && !before.Complete {
		close(r.complete)
		r.complete = make(chan struct{})
	}
}

// published is closed when the next complete snapshot takes the place of one that is not.
func (r *Router) published() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// Directory is where brokers and topic ids are looked up and published.
func (r *Router) Directory() *Directory { return &r.directory }

// NewSession implements Sessions.
func (r *Router) NewSession(broker int32) Session { return &session{router: r, broker: broker} }

// handler decides on one request of one API key. frame is whole, h.Body is where its body begins.
type handler func(s *session, h protocol.RequestHeader, frame []byte) Decision

// The handlers by API key. Each file that serves a key registers it in an init function; a key of
// the API table without a handler is forwarded untouched.
var (
	handlers     [protocol.MaxClientKey + 1]handler
	linkHandlers [linkapi.MaxKey - linkapi.MinKey + 1]handler
)

// handlerSlot is where the handler of a key of the API table is kept.
func handlerSlot(key int16) *handler {
	if key >= linkapi.MinKey {
		return &linkHandlers[key-linkapi.MinKey]
	}
	return &handlers[key]
}

// register sets the handler of a key, once.
func register(key int16, h handler) {
	if slot := handlerSlot(key); *slot == nil {
		*slot = h
		return
	}
	panic("two handlers for one API key")
}

// errUnknownAPI closes a connection that sends a key or version that was not offered in
// ApiVersions, as a broker does.
var errUnknownAPI = errors.New("API key or version not offered")
