package proxy

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime/debug"
	"time"

	"klink/router"
)

// pairState only grows.
type pairState uint8

const (
	opening pairState = iota // the client's socket is on the loop, the broker's is not yet
	open
	closing   // no further request is looked at; what is owed to the client is still delivered
	lingering // everything was delivered and said goodbye; waiting for the client to close
	dead
)

const (
	// closeGrace is how long a connection that must be closed may take to get its last answers.
	closeGrace = 5 * time.Second
	// lingerTime is how long a client has to close after klink did. Closing a socket with unread
	// bytes in it would reset the connection, and the client could lose answers that it has not
	// read yet.
	lingerTime = time.Second
	// maxTurn is how many requests of one connection are handled before others get their turn.
	maxTurn = 512
)

// pair is one client connection with its connection to the broker. Both sockets are on the same
// event loop, and everything here runs on its goroutine: there are no locks.
//
// Invariants, between two events of the loop:
//  1. fifo has the requests that were read and not answered, in order; at most Config.MaxInFlight.
//     Its first entry is never ready.
//  2. sent has those that the broker will answer, in the order of its answers: the awaiting ones of
//     fifo, and discarded ones.
//  3. holds is the number of entries with hold set.
//  4. What it holds is counted in Proxy.budget (see account), but for what the event at hand has
//     changed.
//  5. The bytes held for a client are less than highWater plus one read (and its own answers);
//     those held for the broker less than gateWater plus one request.
type pair struct {
	proxy   *Proxy
	loop    *loop
	session router.Session
	client  side
	up      side
	fifo    []*entry
	sent    []*entry
	run     []byte // responses to be passed on, not yet written; a part of what is being read

	// The response that is being read: left bytes of cur are missing. Between responses cur is nil
	// and the first headerLen bytes of the next one are in header.
	cur       *entry
	left      int
	header    [4]byte
	headerLen uint8

	state    pairState
	reason   Reason
	busy     bool
	farewell bool // TLS close_notify was sent
	holds    int
	budget   int // requests that may be handled in this turn
	err      error

	dialing    bool // the way to the broker is under way, or was
	asked      bool // a request is complete
	served     bool // the broker has answered
	isKnown    bool // see known
	proved     bool // the session was asked for a proof
	lastChance bool // after the login time-out
	starved    bool // not read for want of memory
	cancelDial context.CancelFunc
	upLayer    *tlsLayer // of the broker's side until that is open

	// See budget. queued and queuedKnown are guarded by its mu.
	charged, chargedStrange int64
	queued                  *list.Element
	queuedKnown             bool

	ctx    context.Context // of Decision.Run; made when first needed
	cancel context.CancelFunc

	remote   netip.AddrPort
	accepted time.Time
	broker   int32
	listener *listener

	last, closeBy uint32 // ticks; closeBy 0 = none
	// Ticks at which the connection is closed: without a login; with a request that is not
	// complete; with the lane of the budget. 0 = none.
	loginBy, frameBy, laneBy uint32
	due                      uint32 // the tick of its next visit
	prev, next               *pair
	slot                     uint8
	inWheel                  bool
	slimmed                  bool // nothing has moved since TLS buffers were given back
}

// advance does everything that can be done now. It is called at the end of every event.
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

// decrypt reads TLS sides as far as there is use for their bytes.
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

// wantsBytes says whether anything could be done with more bytes from this side.
func (x *pair) wantsBytes(s *side) bool {
	if x.state == dead {
		return false
	}
	if s.upstream {
		return s.in.len() == 0 && x.client.out.n < highWater
	}
	return x.state <= open && (s.in.len() < inboxWater || x.lacksBytes())
}

// lacksBytes says that the client's first request is not complete, though it could be looked at,
// and may be read on.
func (x *pair) lacksBytes() bool {
	if x.state == open && !x.mayRequest() {
		return false
	}
	size := x.headSize()
	return size <= x.maxFrame() && x.client.in.len() < 4+size
}

// settle decides what happens next after everything possible was done.
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

// readClient suspends or resumes reading from the client, for want of something to do with its
// bytes or of memory, and keeps the time of a request that is not complete.
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
		// Time begins with the first byte, and anew where klink did not want to read.
		x.frameBy = max(x.loop.wheel.now+x.proxy.ticks(x.proxy.config.FrameTimeout), 1)
		x.visitBy(x.frameBy)
	}
	x.client.setReading(wants && !x.starved)
}

// unfinished says that a request has begun and is not complete, be it in the middle of a TLS
// record.
func (x *pair) unfinished() bool {
	if x.client.in.len() > 0 {
		return !x.completeRequest()
	}
	return x.client.tls.partial()
}

// beforeBroker goes on with a connection that has none to the broker yet: its first request opens
// one. Who says nothing costs the broker nothing.
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

// afterClient goes on when the client is gone: requests that it sent before it closed are still
// forwarded, as a broker would still read them (a producer with acks=0 just sends and closes).
// Responses go nowhere.
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

// delivered says that the client has everything that it will get.
func (x *pair) delivered() bool {
	if x.client.out.n > 0 || x.client.tls != nil && x.client.tls.plain.len() > 0 {
		return false
	}
	return len(x.fifo) == 0 || x.up.closed && !x.up.unread() && x.fifo[0].state == awaiting
}

// sayGoodbye closes the client's connection in a way that lets it read everything first.
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

// closeFor begins to close the connection: what was asked before is still answered, for a while.
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

// sideClosed is called when a socket has closed by itself, or its peer has said that it will.
func (x *pair) sideClosed(s *side) {
	if !s.upstream && x.state <= open {
		x.reason = ReasonClient
	}
	x.advance()
}

// kill ends the connection at once. Buffers are left to the garbage collector: frames in them may
// still be looked at further up the stack.
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
	x.proxy.ended(x.reason, x.remote, x.broker, x.err)
}

// context is for Decision.Run: it ends with the connection.
func (x *pair) context() context.Context {
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancel(x.proxy.ctx)
	}
	return x.ctx
}

// recoverPanic turns a panic into the end of one connection. To be deferred.
func (x *pair) recoverPanic() {
	if v := recover(); v != nil {
		x.proxy.panicked(v, debug.Stack())
		x.kill(ReasonPanic, nil)
	}
}
