package gate

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"klink/internal/credentials"
	"klink/internal/sasllogin"
	"klink/protocol"
	"klink/proxy"
	"klink/router"
)

const (
	// authenticateVersion is the version of SaslAuthenticate: the first one that tells how long a
	// login lasts. Brokers have it since 2.2, and klink needs a newer one.
	authenticateVersion = 1
	// maxResponse bounds the responses to the requests of a login, in bytes.
	maxResponse = 1 << 20
)

// guest is a client whose principal has an entry in the credential map.
type guest struct {
	gate      *Gate
	principal string
	mechanism string // by which the client has logged in at klink; "" = by certificate, or not
	entry     *credentials.Entry
	addr      string // of the broker; LogIn sets it

	// expires is when the client's login at klink ends, and renewal when klink has to log in at the
	// broker again; in nanoseconds since 1970, 0 = never.
	expires, renewal atomic.Int64
}

// TLS implements proxy.Guest.
func (g *guest) TLS() *tls.Config {
	if live := g.entry.Destination.TLS; live != nil {
		return live()
	}
	return nil
}

// Identified implements proxy.Guest.
func (g *guest) Identified() bool { return g.principal != anonymous }

// Revoked implements proxy.Guest.
func (g *guest) Revoked() bool { return g.gate.config.Map.Lookup(g.principal) != g.entry }

// Session implements proxy.Guest.
func (g *guest) Session(inner router.Session) proxy.GuestSession {
	return &session{Session: inner, guest: g}
}

// LogIn implements proxy.Guest.
func (g *guest) LogIn(ctx context.Context, conn net.Conn, addr string) error {
	g.addr = addr
	login := g.login()
	if login == nil {
		return nil
	}
	correlation := int32(0)
	for req := login.First(); req != nil; correlation++ {
		body, err := roundTrip(conn, req, correlation)
		if err != nil {
			return err
		}
		if req, err = login.Next(ctx, body); err != nil {
			return refused(g.principal, err)
		}
	}
	g.loggedIn(login)
	return nil
}

// login begins a login at the broker; nil if its listener is without SASL.
func (g *guest) login() *sasllogin.Login {
	m := g.entry.Destination.Mechanism
	if m == nil {
		return nil
	}
	return sasllogin.New([]sasl.Mechanism{m}, g.addr, authenticateVersion)
}

func (g *guest) loggedIn(login *sasllogin.Login) {
	g.renewal.Store(0)
	if at := login.Renewal(); !at.IsZero() {
		g.renewal.Store(at.UnixNano())
	}
}

// refused says that a broker has refused a login, if that is what the error means. It shows nothing
// of the credentials, nor of what a server of tokens has said about them.
func refused(principal string, err error) error {
	for _, e := range []error{kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w %q: %w", proxy.ErrRefused, principal, err)
		}
	}
	return fmt.Errorf("as %q: %w", principal, err)
}

// roundTrip sends a request on a connection that nothing else is sent on, and returns the body of
// the response. Header and response are not flexible.
func roundTrip(conn net.Conn, req kmsg.Request, correlation int32) ([]byte, error) {
	h := protocol.RequestHeader{CorrelationID: correlation}
	if _, err := conn.Write(protocol.AppendRequest(nil, h, req)); err != nil {
		return nil, err
	}
	var header [8]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, closed(err)
	}
	size := int(int32(binary.BigEndian.Uint32(header[:4]))) - 4
	if size < 0 || size > maxResponse || int32(binary.BigEndian.Uint32(header[4:])) != correlation {
		return nil, fmt.Errorf("%w: response to %s", protocol.ErrMalformed, kmsg.NameForKey(req.Key()))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, closed(err)
	}
	return body, nil
}

func closed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the broker closed the connection during the login")
	}
	return err
}

// passed reports whether a time, in nanoseconds since 1970, has come.
func passed(at *atomic.Int64) bool {
	when := at.Load()
	return when != 0 && time.Now().UnixNano() >= when
}
