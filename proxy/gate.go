package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"klink/router"
)

// Gate finds out who a client is, before its connection gets to an event loop, and as whom klink
// logs in at brokers for it. Without a gate clients log in at the brokers themselves.
type Gate interface {
	// Admit is called on a goroutine of the connection's own, after the TLS handshake. It may talk
	// with the client. ctx ends when the time for a login is over, and when klink stops. If Admit
	// returns an error, the proxy closes the connection.
	Admit(ctx context.Context, c *Arrival) (Guest, error)
}

// Arrival is a client's connection that is not on an event loop yet.
type Arrival struct {
	// Conn is the connection, decrypted. The gate must not read further than the client's login.
	Conn net.Conn
	// TLS is what the handshake has told; nil without TLS.
	TLS *tls.ConnectionState
	// Broker is the id of the broker whose port the client has connected to.
	Broker int32
	// Connect connects to that broker for a guest, and returns why that failed. The gate may call
	// it once, to learn that before the client does. Without that, the proxy connects when the
	// client sends its first request.
	Connect func(ctx context.Context, g Guest) error
	// Reserve takes n bytes of memory for the client's login, from what clients that are not known
	// may have; false = there is no room. A negative n gives them back.
	Reserve func(n int) bool
}

// Guest is a client that the gate has let in. Any goroutine may call its methods, unless they say
// otherwise.
type Guest interface {
	// TLS returns the configuration for connections to brokers for this client, nil = plaintext.
	// Without a ServerName, klink verifies the host that it dials.
	TLS() *tls.Config
	// LogIn logs in at a broker for this client, on a new connection to addr (host:port).
	LogIn(ctx context.Context, conn net.Conn, addr string) error
	// Session returns the session that decides on the client's requests. inner is that of a client
	// which has logged in at the broker itself.
	Session(inner router.Session) GuestSession
	// Identified reports whether the client has shown who it is.
	Identified() bool
	// Revoked reports whether klink must not serve the client any longer.
	Revoked() bool
}

// GuestSession is the session of a guest. Like every session it belongs to an event loop.
type GuestSession interface {
	router.Session
	// Due reports whether the login at the broker has to be renewed before the next request.
	Due() bool
	// Renew renews it. The proxy carries out the decision like one on a request. It ends in Drop,
	// or in Close if the broker refuses.
	Renew() router.Decision
}

// ErrRefused is in the error of Guest.LogIn if the broker has refused the login.
var ErrRefused = errors.New("the broker refused what the credential map has for the client")

// reasonOf returns why a connection to a broker could not be made.
func reasonOf(err error) Reason {
	if errors.Is(err, ErrRefused) {
		return ReasonIdentity
	}
	return ReasonDial
}

var errRevoked = errors.New("the credential map has no such entry for its principal any more")

// arrive lets the gate decide on a connection. stream is the connection, decrypted.
func (x *pair) arrive(stream net.Conn, layer *tlsLayer) (Reason, error) {
	p := x.proxy
	ctx, cancel := context.WithTimeout(p.setupCtx, time.Until(x.accepted.Add(p.config.LoginTimeout)))
	defer cancel()
	// Reading and writing end with the context.
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	a := &Arrival{Conn: stream, Broker: x.target.id, Reserve: p.budget.reserve}
	if layer != nil {
		state := layer.conn.ConnectionState()
		a.TLS = &state
	}
	reason := ReasonIdentity
	a.Connect = func(ctx context.Context, g Guest) (err error) {
		if x.early, x.upLayer, err = p.dialFor(ctx, x.target, g); err != nil {
			reason = reasonOf(err)
		}
		return err
	}
	guest, err := p.config.Gate.Admit(ctx, a)
	switch inTime := stop(); {
	case !inTime:
		reason, err = ReasonLogin, fmt.Errorf("no login after %v (login time-out)", p.config.LoginTimeout)
	case reason == ReasonIdentity && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		reason = ReasonClient
	}
	if err != nil {
		if x.early != nil {
			_ = x.early.Close()
		}
		return reason, err
	}
	x.guest = guest
	return 0, nil
}

// reserve takes memory for the login of a client that is not on an event loop yet.
func (m *budget) reserve(n int) bool {
	switch {
	case n < 0:
		m.strangers.Add(int64(n))
		m.used.Add(int64(n))
		m.wake()
	case !addBelow(&m.strangers, int64(n), m.strange):
		return false
	case !addBelow(m.used, int64(n), m.general):
		m.strangers.Add(int64(-n))
		return false
	}
	return true
}

// enter is called on the event loop once that reads the client's socket: it makes the session.
func (x *pair) enter() {
	x.session = x.proxy.config.Sessions.NewSession(router.Client{Listener: x.entrance.index, Broker: x.target.id})
	if x.guest == nil {
		return
	}
	g := x.guest.Session(x.session)
	x.session, x.renewals = g, g
	if x.guest.Identified() {
		x.loginBy = 0
	}
	x.connectEarly()
	x.expel()
}

// expel closes the connection of a guest that must not be served any longer.
func (x *pair) expel() {
	if x.guest != nil && x.guest.Revoked() {
		x.closeFor(ReasonIdentity, errRevoked)
	}
}

// Expel closes the connections of all guests that are revoked now.
func (p *Proxy) Expel() {
	p.onLoops(func(l *loop) {
		l.wheel.each(func(x *pair) {
			defer x.recoverPanic()
			x.expel()
			x.advance()
		})
	})
}

// renewing reports whether the next request has to wait until the login at the broker is renewed,
// and begins that once the broker has answered all earlier requests.
func (x *pair) renewing() bool {
	if x.renewals == nil || !x.completeRequest() || !x.renewals.Due() {
		return false
	}
	if len(x.fifo) == 0 {
		e := x.push()
		e.exclusive = true
		x.resolve(e, x.renewals.Renew())
	}
	return true
}

// connectEarly gives the connection that the gate has made to the event loop.
func (x *pair) connectEarly() {
	if x.early == nil {
		return
	}
	x.dialing = true
	conn := x.early
	x.early = nil
	x.proxy.runs.Go(func() {
		reason, err := x.proxy.guarded(func() (Reason, error) { return x.enrollConnected(conn) })
		if err != nil {
			x.loop.execute(x, func() { x.kill(reason, err) })
		}
	})
}

// logIn logs in at a broker as a guest, and closes the connection if that fails.
func logIn(ctx context.Context, g Guest, conn net.Conn, layer *tlsLayer, addr string) error {
	stream := conn
	if layer != nil {
		stream = layer.conn
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := g.LogIn(ctx, stream, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("log in for a client: %w", err)
	}
	return nil
}
