package router

import (
	"errors"
	"sync"
	"sync/atomic"

	"klink/protocol"
	"klink/protocol/linkapi"
)

// Router makes sessions and holds the snapshots they read. Any goroutine may call Publish.
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
	complete chan struct{} // closed when a complete snapshot replaces an incomplete one
}

// New makes a router with an incomplete snapshot: produces park until the first Publish.
func New(control Control, facts Facts) *Router {
	r := &Router{control: control, facts: facts, complete: make(chan struct{}), desk: newDesk()}
	r.snapshot.Store(&Snapshot{})
	return r
}

// SetLease sets the lease that limits how long a snapshot may be used. Call it before the first
// session is made. Without a lease snapshots do not expire.
func (r *Router) SetLease(l *Lease) { r.lease = l }

// SetLinkAdmin sets what clients may do with links and mirrors. Call it before the first session is
// made. Without it they may do everything that the broker's authorizer allows.
func (r *Router) SetLinkAdmin(a LinkAdmin) { r.linkAdmin = a }

// Publish replaces the snapshot of mirrors. From then on the router owns s.
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

// published returns a channel that is closed when a complete snapshot next replaces an incomplete
// one.
func (r *Router) published() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// Directory returns the directory in which brokers and topic ids are published and looked up.
func (r *Router) Directory() *Directory { return &r.directory }

// NewSession implements Sessions.
func (r *Router) NewSession(c Client) Session {
	return &session{router: r, broker: c.Broker, listener: c.Listener}
}

// RejectedProduces returns how many partitions of produce requests klink itself has refused so far,
// because their topic is a read-only mirror or klink's own, or their topic id does not exist.
func (r *Router) RejectedProduces() int64 { return r.rejected.Load() }

// VoidedBatches returns how many batches klink has made void on their way to clients, because they
// do not belong to their mirror: somebody wrote to the destination around klink, or an append was
// doubled. A batch counts each time a client comes across it.
func (r *Router) VoidedBatches() int64 { return r.voided.Load() }

// Probes returns how often klink has looked into the log of a mirror partition for an offset that
// the timeline did not know.
func (r *Router) Probes() int64 { return r.looks.Load() }

// handler decides on one request of one API key. frame is the whole frame; its body begins at
// h.Body.
type handler func(s *session, h protocol.RequestHeader, frame []byte) Decision

// The handlers by API key. Each file that serves a key registers its handler in an init function.
// klink forwards a key of the API table without a handler untouched.
var (
	handlers     [protocol.MaxClientKey + 1]handler
	linkHandlers [linkapi.MaxKey - linkapi.MinKey + 1]handler
)

// handlerSlot returns the place of the handler for a key of the API table.
func handlerSlot(key int16) *handler {
	if key >= linkapi.MinKey {
		return &linkHandlers[key-linkapi.MinKey]
	}
	return &handlers[key]
}

// register sets the handler of a key. It panics if the key already has one.
func register(key int16, h handler) {
	if slot := handlerSlot(key); *slot == nil {
		*slot = h
		return
	}
	panic("two handlers for one API key")
}

// errUnknownAPI closes a connection that sends a key or version that klink did not offer in
// ApiVersions, as a broker does.
var errUnknownAPI = errors.New("API key or version not offered")
