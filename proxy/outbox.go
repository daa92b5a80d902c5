package proxy

import "golang.org/x/sys/unix"

// outChunk is the size of the buffers in which an outbox queues bytes.
const outChunk = 64 << 10

// outbox queues bytes for a socket. side decides when to write them.
type outbox struct {
	segments []outSegment
	n        int
}

// outSegment is the part b[off:] of a buffer that the outbox owns.
type outSegment struct {
	buf *buffer
	off int
}

// add appends a copy of p.
func (o *outbox) add(p []byte) {
	if len(p) == 0 {
		return
	}
	o.n += len(p)
	if len(o.segments) > 0 {
		last := o.segments[len(o.segments)-1].buf
		if room := min(cap(last.b)-len(last.b), len(p)); room > 0 {
			last.b = append(last.b, p[:room]...)
			p = p[room:]
		}
	}
	for len(p) > 0 {
		size := min(len(p), 1<<20)
		if o.n > size {
			size = max(size, outChunk) // more is likely to follow
		}
		b := newBuffer(size)
		part := min(len(p), cap(b.b))
		b.b = append(b.b, p[:part]...)
		o.segments = append(o.segments, outSegment{buf: b})
		p = p[part:]
	}
}

// give appends the bytes of b from off on. From then on the outbox owns b.
func (o *outbox) give(b *buffer, off int) {
	o.n += len(b.b) - off
	o.segments = append(o.segments, outSegment{buf: b, off: off})
}

// writeTo writes as much as the socket takes. more is true if the socket did not take everything.
func (o *outbox) writeTo(fd int) (n int, more bool, err error) {
	done := 0
	for done < len(o.segments) && err == nil && !more {
		s := &o.segments[done]
		var k int
		k, more, err = writeSocket(fd, s.buf.b[s.off:])
		n += k
		s.off += k
		if s.off == len(s.buf.b) {
			s.buf.free()
			s.buf = nil
			done++
		}
	}
	o.n -= n
	if done > 0 {
		o.segments = o.segments[:copy(o.segments, o.segments[done:])]
	}
	if len(o.segments) == 0 && cap(o.segments) > 4 {
		o.segments = nil
	}
	return n, more, err
}

// size returns the memory that the outbox holds, in bytes.
func (o *outbox) size() (n int) {
	for _, s := range o.segments {
		n += s.buf.size()
	}
	return n
}

// drop forgets everything.
func (o *outbox) drop() { o.segments, o.n = nil, 0 }

// writeSocket writes p to a non-blocking socket, and repeats an interrupted call. more is true if
// the socket's buffer is full. (A partial write means the same, and saves the next call.)
func writeSocket(fd int, p []byte) (n int, more bool, err error) {
	for {
		n, err := unix.Write(fd, p)
		switch err {
		case nil:
			return n, n < len(p), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}
