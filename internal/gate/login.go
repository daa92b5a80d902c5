package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/saslserver"
	"klink/protocol"
	"klink/proxy"
)

const (
	// failedDelay is how long a client waits for the answer to a login that has failed, as at a
	// broker (connection.failed.authentication.delay.ms).
	failedDelay = 100 * time.Millisecond
	// maxRequest bounds a request before the login, in bytes. Access tokens have some KiB.
	maxRequest = 64 << 10
	// unreserved is the size of a request, in bytes, for which no memory needs to be reserved.
	unreserved = 4 << 10
	// maxRequests bounds the requests before the login, and maxHandshakes the attempts to agree on
	// a mechanism.
	maxRequests, maxHandshakes = 32, 4
)

var errOrder = errors.New("the client sent the requests of a login out of order")

// logIn authenticates a client with SASL, and connects to the broker for it, before the client
// learns that it is logged in. So it also learns that klink cannot log in for it.
func (g *Gate) logIn(ctx context.Context, a *proxy.Arrival) (proxy.Guest, error) {
	var admitted *guest
	c := &conversation{server: g.config.Server}
	c.admit = func(client *saslserver.Client) error {
		guest, err := g.guest("User:"+client.Name, c.mechanism)
		if err != nil {
			return &saslserver.Failure{Told: fmt.Sprintf("Authentication failed: klink has no credentials at the destination for User:%s", client.Name), Cause: err.Error()}
		}
		err = a.Connect(ctx, guest)
		if errors.Is(err, proxy.ErrRefused) {
			return &saslserver.Failure{Told: fmt.Sprintf("Authentication failed: the destination refused the credentials that klink has for User:%s", client.Name), Cause: err.Error()}
		}
		if err != nil {
			return err
		}
		guest.setExpiry(client)
		admitted = guest
		return nil
	}
	for range maxRequests {
		answer, err := g.request(ctx, a, c)
		if err != nil && answer != nil {
			wait(ctx, failedDelay)
		}
		if answer != nil {
			if _, failed := a.Conn.Write(answer); failed != nil && err == nil {
				err = failed
			}
		}
		if err != nil {
			return nil, err
		}
		if admitted != nil {
			return admitted, nil
		}
	}
	return nil, errors.New("the client's login does not finish")
}

// request reads a request of a client that is not logged in, and returns the answer, which may come
// with an error.
func (g *Gate) request(ctx context.Context, a *proxy.Arrival, c *conversation) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(a.Conn, prefix[:]); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(prefix[:])))
	if size < 8 || size > maxRequest {
		return nil, fmt.Errorf("request of %d bytes before the login; allowed are 8 to %d", size, maxRequest)
	}
	if size > unreserved {
		if !a.Reserve(size) {
			return nil, errors.New("no memory left for its login; see request memory")
		}
		defer a.Reserve(-size)
	}
	frame := append(make([]byte, 0, 4+size), prefix[:]...)[:4+size]
	if _, err := io.ReadFull(a.Conn, frame[4:]); err != nil {
		return nil, err
	}
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Key == int16(kmsg.ApiVersions):
		return g.versions.answer(ctx, a.Broker, h, g.config.Links)
	case h.Key != int16(kmsg.SASLHandshake) && h.Key != int16(kmsg.SASLAuthenticate):
		return nil, fmt.Errorf("the client sent a request of API key %d before its login", h.Key)
	case h.Body < 0:
		return nil, fmt.Errorf("version %d of API key %d is not offered", h.Version, h.Key)
	}
	answer, _, err := c.answer(ctx, h, frame)
	return answer, err
}

// conversation is one login of a client at klink. It is for one goroutine at a time.
type conversation struct {
	server *saslserver.Server
	before *guest // whom the client has logged in as; nil = this is the first time
	// admit decides, the first time, whether the client gets in.
	admit func(*saslserver.Client) error

	handshakes int
	mechanism  string
	exchange   saslserver.Exchange // nil = the client has to say SaslHandshake
}

// answer takes SaslHandshake or SaslAuthenticate. The client is set once it has logged in. After an
// error the connection is closed; there may be an answer to send before.
func (c *conversation) answer(ctx context.Context, h protocol.RequestHeader, frame []byte) (answer []byte, client *saslserver.Client, err error) {
	req := kmsg.RequestForKey(h.Key)
	req.SetVersion(h.Version)
	if err := read(req, h, frame); err != nil {
		return nil, nil, err
	}
	if req, ok := req.(*kmsg.SASLHandshakeRequest); ok {
		answer, err = c.handshake(h, req)
		return answer, nil, err
	}
	return c.authenticate(ctx, h, req.(*kmsg.SASLAuthenticateRequest))
}

func (c *conversation) handshake(h protocol.RequestHeader, req *kmsg.SASLHandshakeRequest) (answer []byte, err error) {
	resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
	resp.SupportedMechanisms = c.server.Mechanisms()
	c.handshakes++
	switch {
	case c.exchange != nil:
		resp.ErrorCode, err = kerr.IllegalSaslState.Code, errOrder
	case c.before != nil && req.Mechanism != c.before.mechanism:
		// As a broker: who logs in again does so in the same way.
		resp.ErrorCode, err = kerr.UnsupportedSaslMechanism.Code, errors.New("the client asked for another mechanism to log in again")
	default:
		c.mechanism = req.Mechanism
		if c.exchange = c.server.Begin(req.Mechanism); c.exchange == nil {
			resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
			if c.handshakes == maxHandshakes {
				err = errors.New("the client asks for SASL mechanisms that are not enabled")
			}
		}
	}
	return protocol.AppendResponse(nil, h, resp), err
}

func (c *conversation) authenticate(ctx context.Context, h protocol.RequestHeader, req *kmsg.SASLAuthenticateRequest) (answer []byte, client *saslserver.Client, err error) {
	resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	resp.SASLAuthBytes = []byte{}
	if c.exchange == nil {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		return protocol.AppendResponse(nil, h, resp), nil, errOrder
	}
	reply, client, err := c.exchange.Step(ctx, req.SASLAuthBytes)
	if err == nil && client != nil {
		err = c.accept(client)
	}
	var failure *saslserver.Failure
	switch {
	case errors.As(err, &failure):
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &failure.Told
		return protocol.AppendResponse(nil, h, resp), nil, err
	case err != nil:
		return nil, nil, err
	}
	resp.SASLAuthBytes = reply
	if client != nil && !client.Expires.IsZero() {
		resp.SessionLifetimeMillis = max(time.Until(client.Expires).Milliseconds(), 1)
	}
	return protocol.AppendResponse(nil, h, resp), client, nil
}

// accept decides on a client that has shown who it is.
func (c *conversation) accept(client *saslserver.Client) error {
	if c.before == nil {
		return c.admit(client)
	}
	if who := "User:" + client.Name; who != c.before.principal {
		return &saslserver.Failure{Told: fmt.Sprintf("Cannot change principals during re-authentication from %s to %s", c.before.principal, who)}
	}
	return nil
}

// restart makes ready for the next time that the client logs in again.
func (c *conversation) restart() { c.exchange, c.handshakes = nil, 0 }

// setExpiry notes how long a login lasts.
func (g *guest) setExpiry(client *saslserver.Client) {
	g.expires.Store(0)
	if !client.Expires.IsZero() {
		g.expires.Store(client.Expires.UnixNano())
	}
}

// read decodes a request of a client. kmsg trusts the counts in it, so they are checked first.
func read(req kmsg.Request, h protocol.RequestHeader, frame []byte) error {
	m, ok := protocol.MessageOf(h.Key)
	if !ok {
		return fmt.Errorf("%w: no shape of API key %d", protocol.ErrMalformed, h.Key)
	}
	body := frame[h.Body:]
	if err := m.Request.CheckParts([][]byte{body}, h.Version, h.Flexible, protocol.Limits{Memory: 4 * maxRequest}); err != nil {
		return fmt.Errorf("request of API key %d: %w", h.Key, err)
	}
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("request of API key %d: %w", h.Key, protocol.ErrMalformed)
	}
	return nil
}

// wait waits, but not for longer than ctx.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
