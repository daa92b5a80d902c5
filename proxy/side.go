package proxy

import (
	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// Marks of back-pressure, in bytes.
const (
	// Above highWater bytes waiting for the client, klink stops reading from the broker; it resumes
	// at lowWater.
	highWater = 256 << 10
	lowWater  = 64 << 10
	// Above gateWater bytes waiting for either side, klink decides on no further request.
	gateWater = 1 << 20
	// With inboxWater bytes of requests waiting in the inbox, klink stops reading from the client.
	inboxWater = 64 << 10
	// Pieces smaller than smallPiece are collected and written together at the end of an event.
	smallPiece = 4 << 10
	// flushWater bounds the bytes that are collected.
	flushWater = 256 << 10
)

// side is one socket of a pair. gnet reads from it; this package writes to it and pauses it,
// because gnet cannot stop reading and does not report when a socket becomes writable again. So
// gnet's own outbound and inbound buffers are always empty.
//
// Only the event loop of the pair uses a side.
type side struct {
	pair *pair
	conn gnet.Conn
	fd   int // -1 = not open
	tls  *tlsLayer
	in   inbox  // bytes received and decrypted, not consumed yet
	out  outbox // bytes to write, already encrypted
	// closed is set when the peer has closed or the socket is gone: nothing more can be read.
	closed bool
	// broken is set when a write failed: nothing more is written, but the peer's last bytes may
	// still be read.
	broken bool
	paused bool
	// token identifies the side in the write waiter; 0 = the waiter does not know it.
	token uint64
	// waiting is set while the write waiter watches the socket.
	waiting  bool
	upstream bool
}

// send writes p, and queues a copy of what the socket does not take. The next flush writes small
// pieces.
func (s *side) send(p []byte) {
	if s.closed || s.broken || len(p) == 0 {
		return
	}
	if s.tls != nil {
		s.tls.write(p)
		return
	}
	s.sendRaw(p)
}

func (s *side) sendRaw(p []byte) {
	if s.out.n == 0 && !s.waiting && len(p) >= smallPiece {
		n := s.writeNow(p)
		if p = p[n:]; len(p) == 0 || s.broken {
			return
		}
	}
	s.out.add(p)
}

// sendOwned is send for the first n bytes of an inbox, which it consumes. If the socket does not
// take all of a large frame, the rest stays in its buffer, and the outbox takes over that buffer.
// So a frame of 100 MiB is not copied again.
func (s *side) sendOwned(in *inbox, n int) {
	p := in.bytes()[:n]
	if s.tls != nil || s.closed || s.broken || n < outChunk {
		s.send(p)
		in.consume(n)
		return
	}
	written := 0
	if s.out.n == 0 && !s.waiting {
		written = s.writeNow(p)
	}
	switch {
	case s.broken:
		in.consume(n)
	case n-written < outChunk:
		s.out.add(p[written:])
		in.consume(n)
	default:
		start, end := in.off+written, in.off+n
		b := in.detach(n)
		b.b = b.b[:end]
		s.out.give(b, start)
	}
}

// writeNow writes as much of p as the socket takes, and returns how much. The caller must queue the
// rest.
func (s *side) writeNow(p []byte) int {
	n, more, err := writeSocket(s.fd, p)
	s.wrote(n, more, err)
	return n
}

// flush writes what is queued. It reports whether anything was written.
func (s *side) flush() bool {
	if s.closed || s.broken {
		return false
	}
	if s.tls != nil {
		s.tls.seal()
	}
	if s.out.n == 0 || s.waiting {
		return false
	}
	n, more, err := s.out.writeTo(s.fd)
	s.wrote(n, more, err)
	return n > 0
}

func (s *side) wrote(n int, more bool, err error) {
	if n > 0 {
		s.pair.touch()
		if s.upstream {
			s.pair.proxy.stats.UpstreamSent.Add(int64(n))
		} else {
			s.pair.proxy.stats.ClientSent.Add(int64(n))
		}
	}
	switch {
	case err != nil:
		s.broken = true
		s.out.drop()
	case more && !s.waiting:
		s.waiting = true
		if err := s.pair.proxy.waiter.watch(s); err != nil {
			s.broken = true
			s.out.drop()
		}
	}
}

// setReading suspends or resumes reading.
func (s *side) setReading(on bool) {
	if s.fd < 0 || s.paused == !on {
		return
	}
	if err := s.pair.loop.poller.setReading(s.fd, on); err != nil {
		s.pair.kill(ReasonInternal, err)
		return
	}
	s.paused = !on
	if !on {
		s.pair.proxy.stats.Pauses.Add(1)
	}
}

// writable is called when a socket that was full accepts bytes again.
func (s *side) writable() {
	s.waiting = false
	s.pair.advance()
}

// received handles bytes from the socket. p is valid only during the call.
func (s *side) received(p []byte) {
	switch {
	case s.pair.state >= lingering:
	case s.tls != nil:
		s.tls.feed(p) // pair.advance decrypts
	default:
		s.plaintext(p)
	}
}

// plaintext handles bytes that are not encrypted (any more). p is valid only during the call.
func (s *side) plaintext(p []byte) {
	switch x := s.pair; {
	case !s.upstream:
		if x.state <= open {
			x.take(p)
		}
	case s.in.len() > 0:
		s.in.add(p)
	default:
		s.in.add(x.responses(p))
	}
}

// unread reports whether bytes were received that have not been processed yet.
func (s *side) unread() bool {
	return s.in.len() > 0 || s.tls != nil && (s.tls.pipe.kept.len() > 0 || len(s.tls.pipe.fed) > 0)
}

// shutdown tells the peer that klink sends nothing more.
func (s *side) shutdown() {
	if s.fd >= 0 {
		_ = unix.Shutdown(s.fd, unix.SHUT_WR)
	}
}

// close closes the socket. gnet calls handler.OnClose from within it.
func (s *side) close() {
	if s.conn == nil {
		return
	}
	c := s.conn
	s.gone()
	_ = s.pair.loop.gnet.Close(c)
}

// gone clears the state of a socket that gnet is about to close or has closed.
func (s *side) gone() {
	s.pair.proxy.waiter.forget(s)
	s.waiting = false
	s.conn, s.fd = nil, -1
	s.closed = true
	s.out.drop()
}
