package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// tlsLayer encrypts and decrypts one side with crypto/tls, which needs a net.Conn. A goroutine does
// the handshake on the real connection. Afterwards the event loop feeds the bytes from the socket
// into a pipe, and sends the bytes that come out of it.
type tlsLayer struct {
	conn  *tls.Conn
	pipe  *tlsPipe
	plain inbox // small writes, collected so that each does not become its own record
	ended bool  // the peer has sent close_notify
}

// errAgain tells crypto/tls that the pipe is empty for now. tls.Conn does not remember an error
// that calls itself temporary, so reading resumes where it stopped, even in the middle of a record.
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
	t.slim() // frees the buffers of the handshake
}

// feed passes in encrypted bytes. p is valid until the next keep.
func (t *tlsLayer) feed(p []byte) {
	if t.pipe.kept.len() > 0 {
		t.pipe.kept.add(p)
	} else {
		t.pipe.fed = p
	}
}

// keep copies the bytes that were fed and not read yet.
func (t *tlsLayer) keep() {
	if len(t.pipe.fed) > 0 {
		t.pipe.kept.add(t.pipe.fed)
	}
	t.pipe.fed = nil
}

// read decrypts into p. It returns 0, nil if more bytes must be fed first.
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
	_, _ = t.conn.Write(p) // the pipe takes everything; side.wrote notices a broken side
}

// seal encrypts the collected writes.
func (t *tlsLayer) seal() {
	if n := t.plain.len(); n > 0 {
		_, _ = t.conn.Write(t.plain.bytes())
		t.plain.consume(n)
	}
}

// tlsPipe is the net.Conn under a tls.Conn: the real connection during the handshake, the buffers
// of a side afterwards.
type tlsPipe struct {
	net.Conn
	refused error // why a handshake was refused by the server name; see sni.go
	side    *side
	fed     []byte
	kept    inbox
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
