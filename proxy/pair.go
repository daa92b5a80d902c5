package proxy

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"klink/router"
)

// pairState is the state of a pair. It only moves forward, in the order below.
type pairState uint8

const (
	opening pairState = iota // the client's socket is on the loop, the broker's is not yet
	open
	closing   // no further request is decided; the client still gets the answers to earlier ones
	lingering // all answers are delivered, klink has shut down; waiting for the client
	dead
)

const (
	// closeGrace is how long a closing connection may take to deliver its last answers.
	closeGrace = 5 * time.Second
	// lingerTime is how long klink waits for the client to close after klink has shut down its
	// side. Closing a socket with unread bytes in it would reset the connection, and the client
	// could lose answers that it has not read yet.
	lingerTime = time.Second
	// maxTurn is how many requests of one connection the loop handles before other connections get
	// their turn.
	maxTurn = 512
)

// pair is one client connection with its connection to the broker. Both sockets are on the same
// event loop, and everything here runs on that loop's goroutine: there are no locks.
//
// Invariants, between two events of the loop:
//  1. fifo holds the requests that were read and not answered, in order; at most
//     Config.MaxInFlight. Its first entry is never ready.
//  2. sent holds the requests that the broker will answer, in the order of its answers: the
//     awaiting entries of fifo, and discarded ones.
//  3. holds is the number of entries with hold set.
//  4. Proxy.budget counts the memory that the pair holds (see account), except for changes made by
//     the current event.
//  5. The bytes held for a client are less than highWater plus one read (and klink's own answers);
//     those held for the broker are less than gateWater plus one request.
type pair struct {
	proxy   *Proxy
	loop    *loop
	session router.Session
	client  side
	up      side
	fifo    []*entry
	sent    []*entry
	run     []byte // response bytes not written to the client yet; aliases the bytes being read

	// The response that is being read: cur waits for it, and left bytes are still to come. Between
	// responses cur is nil, and header holds the first headerLen bytes of the next one.
	cur       *entry
	left      int
	header    [4]byte
	headerLen uint8

	state    pairState
	reason   Reason
	busy     bool
	farewell bool // TLS close_notify was sent

	// Of a client that the gate has let in; see gate.go.
	guest    Guest
	renewals GuestSession
	early    net.Conn // to the broker, before it is on the event loop
	holds    int
	budget   int // requests that may still be handled in this turn
	err      error

	dialing    bool // dial was called
	asked      bool // the client has sent a complete request
	served     bool // the broker has answered
	isKnown    bool // see known
	proved     bool // Session.Prove was called
	lastChance bool // the login time-out has passed, and the broker was asked once more
	starved    bool // not read because the budget has no room
	cancelDial context.CancelFunc
	upLayer    *tlsLayer // TLS of the broker's side until OnOpen attaches it

	// See budget, whose mu guards queued and queuedKnown.
	charged, chargedStrange int64
	queued                  *list.Element
	queuedKnown             bool

	ctx    context.Context // of Decision.Run; made when first needed
	cancel context.CancelFunc

	remote   netip.AddrPort // the client's address
	counted  bool           // in Proxy.perIP
	accepted time.Time
	entrance *entrance
	target   *target // the broker

	last, closeBy uint32 // ticks; closeBy 0 = none
	// Ticks at which klink closes the connection if it still has no login (loginBy), an incomplete
	// request (frameBy), or the lane of the budget (laneBy). 0 = none.
	loginBy, frameBy, laneBy uint32
	due                      uint32 // the tick of the next visit
	prev, next               *pair
	slot                     uint8
	inWheel                  bool
	slimmed                  bool // nothing has moved since TLS buffers were given back
}

// advance does all the work that is possible now. Every event ends with a call to it.
func (x *pair) advance() {
	if x.state == dead || x.busy || x.session == nil {
		return
	}
	x.busy = true
	x.budget = maxTurn
	for moved := true; moved && x.state != dead; {
		moved = x.decrypt()
		moved = x.heldResponses() || moved
		moved = x.requests() || moved
		moved = x.client.flush() || moved
		moved = x.up.flush() || moved
	}
	x.settle()
	x.busy = false
	if x.state == open && x.budget == 0 {
		x.loop.execute(x, x.advance)
	}
}

// decrypt reads from the TLS sides as long as the pair can use their bytes.
func (x *pair) decrypt() (moved bool) {
	for _, s := range [2]*side{&x.client, &x.up} {
		for s.tls != nil && !s.tls.ended && x.state < lingering && x.wantsBytes(s) {
			n, err := s.tls.read(x.loop.scratch)
			if n > 0 {
				moved = true
				s.plaintext(x.loop.scratch[:n])
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					s.tls.ended = true
					s.close()
					x.sideClosed(s)
				} else {
					s.flush() // the alert
					x.kill(ReasonTLS, err)
				}
				moved = true
				break
			}
			if n == 0 {
				break
			}
		}
	}
	return moved
}

// wantsBytes reports whether the pair could use more bytes from this side.
func (x *pair) wantsBytes(s *side) bool {
	if x.state == dead {
		return false
	}
	if s.upstream {
		return s.in.len() == 0 && x.client.out.n < highWater
	}
	return x.state <= open && (s.in.len() < inboxWater || x.lacksBytes())
}

// lacksBytes reports whether the client's first request is incomplete and should be read further:
// its size is allowed, and if the pair is open, so are the gates for the next request.
func (x *pair) lacksBytes() bool {
	if x.state == open && !x.mayRequest() {
		return false
	}
	size := x.headSize()
	return size <= x.maxFrame() && x.client.in.len() < 4+size
}

// settle decides what happens next, after advance has done everything possible.
func (x *pair) settle() {
	if x.state == dead {
		return
	}
	x.account()
	x.loop.sizeReads()
	if x.client.broken {
		x.client.close()
	}
	if x.state == opening {
		x.beforeBroker()
	}
	if x.client.closed {
		x.afterClient()
		return
	}
	if x.up.closed && x.state == open {
		x.closeFor(ReasonUpstream, nil)
	}
	if x.state == closing && x.delivered() {
		x.sayGoodbye()
	}
	switch x.state {
	case opening, open:
		x.readClient()
	case closing:
		x.client.in.drop()
		x.client.setReading(false)
	case lingering:
		x.client.setReading(true)
	}
	x.readUpstream()
}

// readClient suspends or resumes reading from the client: klink does not read bytes that it cannot
// use or has no memory for. It also runs the clock of an incomplete request (frameBy).
func (x *pair) readClient() {
	wants, starved := x.wantsBytes(&x.client), x.starved
	x.starved = wants && x.charged > 0 && !x.proxy.budget.admit(x)
	if !wants || x.charged == 0 {
		x.proxy.budget.forget(x)
	}
	switch {
	case !x.unfinished():
		x.frameBy = 0
	case x.frameBy == 0 || x.client.paused && !starved:
		// The clock starts with the first byte, and starts again if klink itself had stopped
		// reading.
		x.frameBy = max(x.loop.wheel.now+x.proxy.ticks(x.proxy.config.FrameTimeout), 1)
		x.visitBy(x.frameBy)
	}
	x.client.setReading(wants && !x.starved)
}

// unfinished reports whether a request has begun and is not complete, even if only a part of its
// TLS record has arrived.
func (x *pair) unfinished() bool {
	if x.client.in.len() > 0 {
		return !x.completeRequest()
	}
	return x.client.tls.partial()
}

// beforeBroker handles a pair that has no connection to the broker yet: the client's first complete
// request opens one. So a client that sends nothing costs the broker nothing.
func (x *pair) beforeBroker() {
	switch size := x.headSize(); {
	case x.client.in.len() < 4:
	case size < minRequest || size > x.maxFrame():
		x.closeFor(ReasonFrameSize, x.frameSizeError(size))
	case !x.dialing && x.completeRequest():
		x.asked = true
		x.dial()
	}
}

// readUpstream suspends or resumes reading from the broker.
func (x *pair) readUpstream() {
	switch {
	case x.state == dead || x.up.fd < 0:
	case x.up.in.len() > 0 || x.client.out.n >= highWater:
		x.up.setReading(false)
	case x.client.out.n <= lowWater && !x.up.unread():
		x.up.setReading(true)
	}
}

// afterClient handles a pair whose client has closed. Requests that the client sent before it
// closed are still forwarded, because a broker would still read them: a producer with acks=0 just
// sends and closes. Responses are dropped.
func (x *pair) afterClient() {
	if x.closeBy == 0 {
		x.deadline(closeGrace)
	}
	if x.state <= open {
		x.reason = ReasonClient
	}
	undecrypted := x.client.tls != nil && x.client.tls.pipe.kept.len() > 0
	waits := x.up.out.n > 0 || x.state <= open && (x.holds > 0 || x.completeRequest() || undecrypted)
	if x.state == lingering || x.up.closed || x.up.broken || !waits {
		x.kill(x.reason, x.err)
		return
	}
	x.readUpstream()
}

// delivered reports whether the client has received everything that it will get.
func (x *pair) delivered() bool {
	if x.client.out.n > 0 || x.client.tls != nil && x.client.tls.plain.len() > 0 {
		return false
	}
	return len(x.fifo) == 0 || x.up.closed && !x.up.unread() && x.fifo[0].state == awaiting
}

// sayGoodbye shuts down the client's connection in a way that lets the client read everything
// first.
func (x *pair) sayGoodbye() {
	if t := x.client.tls; t != nil && !x.farewell {
		x.farewell = true
		_ = t.conn.CloseWrite()
		x.client.flush()
		if x.client.out.n > 0 && !x.client.broken {
			return
		}
	}
	x.up.close()
	x.client.shutdown()
	x.state = lingering
	x.deadline(lingerTime)
}

// closeFor begins to close the connection: earlier requests are still answered, within closeGrace.
// A drain has no such limit.
func (x *pair) closeFor(r Reason, err error) {
	if x.state > open {
		return
	}
	x.state, x.reason, x.err = closing, r, err
	if r != ReasonDrain {
		x.deadline(closeGrace)
	}
}

// drain ends the connection as soon as no request is in flight.
func (x *pair) drain() {
	x.closeFor(ReasonDrain, nil)
	x.advance()
}

// sideClosed is called when a socket was closed under us, or its peer has announced that it will
// close.
func (x *pair) sideClosed(s *side) {
	if !s.upstream && x.state <= open {
		x.reason = ReasonClient
	}
	x.advance()
}

// kill ends the connection at once. It leaves buffers to the garbage collector, because callers
// further up the stack may still use frames in them.
func (x *pair) kill(r Reason, err error) {
	if x.state == dead {
		return
	}
	if x.state <= open || r == ReasonPanic {
		x.reason, x.err = r, err
	}
	x.state = dead
	x.loop.wheel.remove(x)
	if x.cancel != nil {
		x.cancel()
	}
	if x.cancelDial != nil {
		x.cancelDial()
	}
	if x.early != nil {
		_ = x.early.Close()
	}
	x.client.flush() // answers that were about to be written; what the socket does not take is lost
	x.client.close()
	x.up.close()
	x.client.in.drop()
	x.up.in.drop()
	x.client.tls, x.up.tls = nil, nil
	x.fifo, x.sent, x.run, x.cur = nil, nil, nil, nil
	x.proxy.budget.forget(x)
	x.proxy.budget.set(x, 0)
	x.loop.pairs.Add(-1)
	if s := x.session; s != nil {
		x.session = nil
		func() {
			defer x.recoverPanic()
			s.Closed()
		}()
	}
	x.proxy.ended(x.reason, x.entrance, x.remote, x.target.id, x.counted, x.err)
}

// context returns the context for Decision.Run. It ends with the connection.
func (x *pair) context() context.Context {
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancel(x.proxy.ctx)
	}
	return x.ctx
}

// recoverPanic turns a panic into the end of one connection. Defer it.
func (x *pair) recoverPanic() {
	if v := recover(); v != nil {
		x.proxy.panicked(v, debug.Stack())
		x.kill(ReasonPanic, nil)
	}
}
