package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// minResponse is the size of a response that consists of only a correlation id.
const minResponse = 4

var errUnasked = errors.New("the broker sent a response to no request")

// responses handles bytes from the broker, in order and in pieces of any size, and passes on what
// it can. It returns the rest, which must wait until an earlier request is answered.
func (x *pair) responses(p []byte) (rest []byte) {
	for len(p) > 0 && x.state < lingering {
		if x.cur == nil {
			var wait bool
			if p, wait = x.beginResponse(p); wait {
				rest = p
				break
			}
			continue
		}
		n := min(len(p), x.left)
		x.left -= n
		x.response(x.cur, p[:n])
		p = p[n:]
		if x.left == 0 && x.state != dead {
			x.endResponse()
		}
	}
	x.flushRun()
	return rest
}

// heldResponses is responses for bytes that had to wait. It reports whether it used any.
func (x *pair) heldResponses() bool {
	n := x.up.in.len()
	if n == 0 || x.state >= lingering {
		return false
	}
	used := n - len(x.responses(x.up.in.bytes()))
	if x.state != dead {
		x.up.in.consume(used)
	}
	return used > 0
}

// beginResponse reads the size prefix of the next response and finds the request that it answers.
// wait is true if the response must wait.
func (x *pair) beginResponse(p []byte) (rest []byte, wait bool) {
	if len(x.sent) == 0 {
		x.kill(ReasonResponse, errUnasked)
		return nil, false
	}
	e := x.sent[0]
	if !e.discard && e != x.fifo[0] {
		if x.fifo[0].state == running {
			return p, true
		}
		// The first request in fifo waits for a later response of the broker, so this response must
		// be stored until then.
		e.keep = true
	}
	prefix := p
	if x.headerLen > 0 || len(p) < 4 {
		n := copy(x.header[x.headerLen:], p)
		x.headerLen += uint8(n)
		p = p[n:]
		if x.headerLen < 4 {
			return p, false
		}
		prefix = x.header[:]
	}
	size := int(int32(binary.BigEndian.Uint32(prefix)))
	if size < minResponse {
		x.kill(ReasonResponse, fmt.Errorf("the broker sent a response of %d bytes", size))
		return nil, false
	}
	if limit := x.proxy.config.MaxWholeResponse; e.collects() && !e.discard && size > limit {
		x.cut(e)
		x.closeFor(ReasonWholeTooLarge, fmt.Errorf("klink would have to hold a response of %d bytes in memory; at most %d are allowed", size, limit))
	}
	x.cur, x.left = e, 4+size
	if x.headerLen > 0 {
		x.headerLen = 0
		x.left = size
		x.response(e, x.header[:])
		x.flushRun() // header is reused
	}
	return p, false
}

// response handles a piece of the response to e.
func (x *pair) response(e *entry, p []byte) {
	switch {
	case e.discard:
	case e.collects():
		have := 0
		if e.buf != nil {
			have = len(e.buf.b)
		}
		e.buf = e.buf.grown(have+len(p), have+len(p)+x.left)
		e.buf.b = append(e.buf.b, p...)
	default:
		x.passOn(e, p)
	}
}

// passOn sends a piece of a response to the client, through the entry's stream if it has one.
func (x *pair) passOn(e *entry, p []byte) {
	tail := p
	if e.stream != nil {
		head, t, err := e.stream.Next(p)
		if err != nil {
			x.kill(ReasonResponse, err)
			return
		}
		if len(head) > 0 {
			x.toClient(head)
		}
		tail = t
	}
	if len(tail) == 0 {
		return
	}
	// Adjacent pieces are written together.
	if n := len(x.run); n > 0 && cap(x.run) > n && &x.run[:n+1][n] == &tail[0] {
		x.run = x.run[:n+len(tail)]
		return
	}
	x.flushRun()
	x.run = tail
}

// toClient sends bytes to the client, after those in run.
func (x *pair) toClient(p []byte) {
	x.flushRun()
	x.client.send(p)
}

func (x *pair) flushRun() {
	if run := x.run; len(run) > 0 {
		x.run = nil
		x.client.send(run)
	}
}

// endResponse is called after the last byte of a response.
func (x *pair) endResponse() {
	e := x.cur
	x.cur, x.served = nil, true
	x.sent = x.sent[:copy(x.sent, x.sent[1:])]
	switch {
	case e.discard:
		x.loop.freeEntry(e)
	case e.whole != nil:
		whole := e.whole
		e.whole = nil
		x.resolve(e, whole(e.buf.b))
	case e.keep:
		e.frame, e.state = e.buf.b, ready
		x.answerReady()
	default:
		x.remove(e)
		x.answerReady()
	}
}

// answerReady sends the answers whose turn has come.
func (x *pair) answerReady() {
	for x.state != dead && len(x.fifo) > 0 && x.fifo[0].state == ready {
		e := x.fifo[0]
		x.passOn(e, e.frame)
		x.flushRun() // before its buffer is freed
		if x.state == dead {
			return
		}
		x.remove(e)
	}
}
