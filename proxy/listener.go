package proxy

import (
	"errors"
	"fmt"
	"net"
	"time"

	"klink/router"
)

const bootstrapID = router.BootstrapID

// After an accept error (usually no file descriptor is left) the listener waits, twice as long each
// time.
const (
	minAcceptBackoff = 5 * time.Millisecond
	maxAcceptBackoff = time.Second
)

// listener is one port of an entrance: to bootstrap from, or that of one broker. A broker keeps a
// port that clients know, even when the broker is gone.
type listener struct {
	proxy    *Proxy
	entrance *entrance
	target   *target
	port     int
	ln       net.Listener // guarded by Proxy.mu; nil = could not be opened yet
	closed   chan struct{}
}

// listen opens the port. Proxy.mu is held.
func (l *listener) listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	l.ln, l.closed = ln, make(chan struct{})
	l.port = ln.Addr().(*net.TCPAddr).Port
	return nil
}

// serve starts accepting. Proxy.mu is held.
func (l *listener) serve() {
	ln := l.ln
	l.proxy.accepts.Go(func() { l.accept(ln) })
}

// close stops accepting. Proxy.mu is held.
func (l *listener) close() {
	if l.ln != nil {
		close(l.closed)
		_ = l.ln.Close()
	}
}

func (l *listener) accept(ln net.Listener) {
	p := l.proxy
	var backoff time.Duration
	for {
		conn, err := ln.Accept()
		if err == nil {
			backoff = 0
			if !p.rate.wait(l.closed) {
				_ = conn.Close()
				return
			}
			p.accepted(l, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		backoff = min(max(2*backoff, minAcceptBackoff), maxAcceptBackoff)
		if backoff == minAcceptBackoff || backoff == maxAcceptBackoff {
			p.config.Logger.Warn("cannot accept connections", "listener", ln.Addr().String(), "err", err, "retry_in", backoff)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return
		}
	}
}

// accepted handles a new connection. Shutdown waits for connections only after the accept loops
// have ended, so adding to live is safe here.
func (p *Proxy) accepted(l *listener, conn net.Conn) {
	p.stats.Accepted.Add(1)
	n := p.stats.Connections.Add(1)
	p.live.Add(1)
	remote := remoteOf(conn)
	counted := !l.entrance.trusts(remote.Addr()) // otherwise it is not the client's address
	fits := !counted || p.perIP.enter(remote.Addr())
	var refusal error
	if limit := p.config.MaxConnections; limit > 0 && n > int64(limit) {
		refusal = fmt.Errorf("more than %d connections (max connections)", limit)
	} else if !fits {
		refusal = p.perIP.refusal()
	}
	if refusal != nil {
		_ = conn.Close()
		p.ended(ReasonLimit, l.entrance, remote, l.target.id, counted, refusal)
		return
	}
	p.setups.Go(func() { p.setUp(l, conn, remote, counted) })
}
