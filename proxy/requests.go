package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"klink/router"
)

// minRequest is the size of a request that consists of only the fixed part of its header.
const minRequest = 8

var (
	errUpstream  = errors.New("a decision names an upstream that does not exist")
	errNoFrame   = errors.New("a decision to forward or answer has no frame")
	errRetry     = errors.New("a decision asks to retry a request that is no longer there")
	errUndecided = errors.New("a decision has an unknown action")
)

// requests cuts frames from the client's bytes and carries out the session's decisions on them, as
// long as mayRequest allows it.
func (x *pair) requests() (moved bool) {
	for x.mayRequest() {
		if x.renewing() {
			break
		}
		frame := x.nextRequest()
		if frame == nil {
			break
		}
		moved = true
		x.budget--
		x.asked, x.frameBy = true, 0
		x.proxy.stats.countRequest(frame)
		x.decide(frame, x.session.Request(frame))
	}
	return moved
}

// mayRequest reports whether the next request may be decided. Back-pressure works by holding back
// requests, because brokers send only what was asked for.
func (x *pair) mayRequest() bool {
	return x.state == open && x.holds == 0 && x.budget > 0 && len(x.fifo) < x.proxy.config.MaxInFlight &&
		x.client.out.n < gateWater && x.up.out.n < gateWater && !x.up.closed && !x.up.broken
}

// completeRequest reports whether the inbox begins with a complete request.
func (x *pair) completeRequest() bool {
	b := x.client.in.bytes()
	return len(b) >= 4 && len(b)-4 >= int(int32(binary.BigEndian.Uint32(b)))
}

// expects returns the size of the first request in the inbox once p is added, with its size prefix;
// 0 if that is not known yet.
func (x *pair) expects(p []byte) int {
	b := x.client.in.bytes()
	if len(b) == 0 {
		b = p
	}
	if len(b) < 4 {
		return 0
	}
	if size := int(int32(binary.BigEndian.Uint32(b))); size > 0 && size <= x.maxFrame() {
		return 4 + size
	}
	return 0
}

// loginFrame is the largest request before the login, like a broker's sasl.server.max.receive.size.
const loginFrame = 512 << 10

// maxFrame returns the largest request that klink accepts now.
func (x *pair) maxFrame() int {
	if limit := x.proxy.config.MaxRequestBytes; limit <= loginFrame || !x.proxy.config.SASL || x.known() {
		return limit
	}
	return loginFrame
}

// headSize returns the size that the first request in the inbox announces; 0 if its prefix is not
// complete yet.
func (x *pair) headSize() int {
	b := x.client.in.bytes()
	if len(b) < 4 {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(b)))
}

func (x *pair) frameSizeError(size int) error {
	if limit := x.maxFrame(); limit < x.proxy.config.MaxRequestBytes && size > limit {
		return fmt.Errorf("request of %d bytes before the login; allowed are %d to %d", size, minRequest, limit)
	}
	return fmt.Errorf("request of %d bytes; allowed are %d to %d (max request bytes)", size, minRequest, x.proxy.config.MaxRequestBytes)
}

// prove makes the session ask the broker whether it serves this client. Nothing else may be in
// flight.
func (x *pair) prove() {
	x.proved = true
	e := x.push()
	e.exclusive = true
	x.resolve(e, x.session.Prove())
}

// nextRequest returns the next complete request frame, or nil if there is none yet.
func (x *pair) nextRequest() []byte {
	b := x.client.in.bytes()
	if len(b) < 4 {
		return nil
	}
	size := int(int32(binary.BigEndian.Uint32(b)))
	if size < minRequest || size > x.maxFrame() {
		switch {
		case size < minRequest || size > x.proxy.config.MaxRequestBytes || x.proved && len(x.fifo) == 0:
			x.closeFor(ReasonFrameSize, x.frameSizeError(size))
		case len(x.fifo) == 0:
			// The client may have logged in without a proof yet: for some clients the first request
			// after the login is a large Produce.
			x.prove()
		}
		return nil
	}
	if len(b) < 4+size {
		return nil
	}
	return b[: 4+size : 4+size]
}

// decide carries out the decision on a request that was just read. client.in begins with frame.
func (x *pair) decide(frame []byte, d router.Decision) {
	if x.state == dead {
		return
	}
	in := &x.client.in
	if err := valid(d); err != nil {
		x.closeFor(ReasonInternal, err)
		return
	}
	switch d.Action {
	case router.Forward:
		if len(d.Frame) == len(frame) && &d.Frame[0] == &frame[0] {
			x.up.sendOwned(in, len(frame))
		} else {
			x.up.send(d.Frame)
			in.consume(len(frame))
		}
		if !d.NoResponse {
			x.await(x.push(), d)
		}
	case router.Answer:
		if len(x.fifo) == 0 {
			x.toClient(d.Frame)
		} else {
			x.push().answer(d.Frame)
		}
		in.consume(len(frame))
	case router.Run:
		e := x.push()
		e.request, e.frame = in.detach(len(frame)), frame
		x.start(e, d.Run)
	case router.Drop:
		in.consume(len(frame))
	case router.Close:
		x.closeFor(ReasonRequest, d.Err)
	default: // Retry has nothing to wait for
		x.closeFor(ReasonInternal, errRetry)
	}
}

// resolve carries out a decision on an entry: the result of Run, or the decision on a whole
// response.
func (x *pair) resolve(e *entry, d router.Decision) {
	for d.Action == router.Retry {
		if e.request == nil {
			d = router.Decision{Action: router.Close, Err: errRetry}
			break
		}
		if d = x.session.Request(e.frame); d.Action == router.Retry {
			d = router.Decision{Action: router.Close, Err: errRetry}
		}
	}
	if x.state == dead {
		return
	}
	reason := ReasonRequest
	if err := valid(d); err != nil {
		d, reason = router.Decision{Action: router.Close, Err: err}, ReasonInternal
	}
	switch d.Action {
	case router.Forward:
		x.up.send(d.Frame)
		if d.NoResponse {
			x.remove(e)
		} else {
			x.await(e, d)
		}
	case router.Answer:
		e.answer(d.Frame)
		x.release(e, e.exclusive)
	case router.Run:
		x.start(e, d.Run)
	case router.Drop:
		x.remove(e)
	default: // Close; valid has refused the others
		x.cut(e)
		x.closeFor(reason, d.Err)
	}
	x.answerReady()
}

// valid checks a decision for faults that would crash the loop or hang the connection.
func valid(d router.Decision) error {
	switch d.Action {
	case router.Forward, router.Answer:
		if len(d.Frame) < 4 {
			return errNoFrame
		}
		if d.Action == router.Forward && d.Upstream != router.Destination {
			return errUpstream
		}
	case router.Run:
		if d.Run == nil {
			return errUndecided
		}
	case router.Retry, router.Drop, router.Close:
	default:
		return errUndecided
	}
	return nil
}

// push appends a new entry to the requests that wait for an answer.
func (x *pair) push() *entry {
	e := x.loop.newEntry()
	x.fifo = append(x.fifo, e)
	return e
}

// await makes an entry wait for the broker's response to the request that was just sent.
func (x *pair) await(e *entry, d router.Decision) {
	e.request.free()
	e.buf.free()
	e.request, e.buf, e.frame = nil, nil, nil
	e.state, e.stream, e.whole, e.keep = awaiting, d.Stream, d.Whole, false
	e.exclusive = e.exclusive || d.Exclusive
	x.release(e, e.exclusive)
	x.sent = append(x.sent, e)
}

// release sets whether later requests must wait for the entry.
func (x *pair) release(e *entry, hold bool) {
	if e.hold != hold {
		e.hold = hold
		if hold {
			x.holds++
		} else {
			x.holds--
		}
	}
}

// start runs a decision's slow work on a goroutine and brings its result back to the loop.
func (x *pair) start(e *entry, run func(context.Context) router.Decision) {
	e.state = running
	x.release(e, true)
	ctx := x.context()
	x.proxy.runs.Go(func() {
		d := x.proxy.run(ctx, run)
		x.loop.execute(x, func() {
			if x.state != dead && !e.discard {
				x.resolve(e, d)
				x.advance()
			}
		})
	})
}

// run calls Decision.Run and turns a panic into a decision to close.
func (p *Proxy) run(ctx context.Context, run func(context.Context) router.Decision) (d router.Decision) {
	defer func() {
		if v := recover(); v != nil {
			p.panicked(v, debug.Stack())
			d = router.Decision{Action: router.Close, Err: fmt.Errorf("panic: %v", v)}
		}
	}()
	return run(ctx)
}

// answer stores a copy of the answer until its turn comes.
func (e *entry) answer(frame []byte) {
	b := newBuffer(len(frame))
	b.b = append(b.b, frame...)
	e.request.free()
	e.buf.free()
	e.request, e.whole, e.stream = nil, nil, nil
	e.buf, e.frame, e.state = b, b.b, ready
}

// remove removes and frees an entry that needs no (further) answer.
func (x *pair) remove(e *entry) {
	for i, f := range x.fifo {
		if f == e {
			x.fifo = append(x.fifo[:i], x.fifo[i+1:]...)
			break
		}
	}
	x.release(e, false)
	x.loop.freeEntry(e)
}

// cut removes an entry and all after it from fifo: the client will not get answers to them.
func (x *pair) cut(e *entry) {
	for i, f := range x.fifo {
		if f == e {
			for _, later := range x.fifo[i:] {
				x.release(later, false)
				later.discard = true
			}
			x.fifo = x.fifo[:i]
			return
		}
	}
}
