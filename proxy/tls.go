package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// tlsLayer encrypts and decrypts one side with crypto/tls, which only knows how to talk to a
// net.Conn: the handshake is done on the real one, in a goroutine; afterwards the event loop feeds
// what the socket brings into a pipe, and takes from it what is to be sent.
type tlsLayer struct {
	conn  *tls.Conn
	pipe  *tlsPipe
	plain inbox // small writes, collected so that they do not become a record each
	ended bool  // the peer has said that nothing more comes
}

// errAgain tells crypto/tls that the pipe is empty for now. An error that calls itself temporary is
// not remembered by tls.Conn, so reading goes on where it stopped, even in the middle of a record.
var errAgain net.Error = againError{}

type againError struct{}

func (againError) Error() string   { return "no bytes yet" }
func (againError) Timeout() bool   { return false }
func (againError) Temporary() bool { return true }

// attach switches from the real connection to the pipe.
func (t *tlsLayer) attach(s *side) {
	t.pipe.Conn = nil
	t.pipe.side = s
	s.tls = t
	t.slim() // of what the handshake has needed
}

// feed gives encrypted bytes, only valid until the next keep.
func (t *tlsLayer) feed(p []byte) {
	if t.pipe.kept.len() > 0 {
		t.pipe.kept.add(p)
	} else {
		t.pipe.fed = p
	}
}

// keep copies what was fed and not read yet.
func (t *tlsLayer) keep() {
	if len(t.pipe.fed) > 0 {
		t.pipe.kept.add(t.pipe.fed)
	}
	t.pipe.fed = nil
}

// read decrypts into p. It returns 0, nil when more has to be fed first.
func (t *tlsLayer) read(p []byte) (int, error) {
	n, err := t.conn.Read(p)
	if err != nil && errors.Is(err, errAgain) {
		err = nil
	}
	return n, err
}

// write encrypts p, or collects it for the next seal.
func (t *tlsLayer) write(p []byte) {
	if len(p) < smallPiece {
		t.plain.add(p)
		if t.plain.len() >= 4*smallPiece {
			t.seal()
		}
		return
	}
	t.seal()
	_, _ = t.conn.Write(p) // the pipe takes everything; a broken side is noticed where it breaks
}

// seal encrypts what was collected.
func (t *tlsLayer) seal() {
	if n := t.plain.len(); n > 0 {
		_, _ = t.conn.Write(t.plain.bytes())
		t.plain.consume(n)
	}
}

// tlsPipe is the net.Conn under a tls.Conn: the real one during the handshake, the buffers of a
// side afterwards.
type tlsPipe struct {
	net.Conn
	side *side
	fed  []byte
	kept inbox
}

func (p *tlsPipe) Read(b []byte) (int, error) {
	if p.Conn != nil {
		return p.Conn.Read(b)
	}
	if n := p.kept.len(); n > 0 {
		n = copy(b, p.kept.bytes())
		p.kept.consume(n)
		return n, nil
	}
	if len(p.fed) == 0 {
		return 0, errAgain
	}
	n := copy(b, p.fed)
	p.fed = p.fed[n:]
	return n, nil
}

func (p *tlsPipe) Write(b []byte) (int, error) {
	if p.Conn != nil {
		return p.Conn.Write(b)
	}
	s := p.side
	if s.closed || s.broken {
		return len(b), nil
	}
	s.out.add(b)
	if s.out.n >= flushWater && !s.waiting {
		s.wrote(s.out.writeTo(s.fd))
	}
	return len(b), nil
}

func (p *tlsPipe) Close() error {
	if p.Conn != nil {
		return p.Conn.Close()
	}
	return nil
}

// tls.Conn sets a deadline before its closing alert, and clears it.
func (p *tlsPipe) SetDeadline(t time.Time) error {
	if p.Conn != nil {
		return p.Conn.SetDeadline(t)
	}
	return nil
}

func (p *tlsPipe) SetWriteDeadline(t time.Time) error {
	if p.Conn != nil {
		return p.Conn.SetWriteDeadline(t)
	}
	return nil
}

func (p *tlsPipe) SetReadDeadline(t time.Time) error {
	if p.Conn != nil {
		return p.Conn.SetReadDeadline(t)
	}
	return nil
}
