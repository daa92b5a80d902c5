// Package sasllogin logs in at a broker with SASL, as a machine without a socket: whoever has the
// connection sends its requests and gives it the responses. The replicator's connections and those
// that klink makes for clients use it, to log in and to log in again (KIP-368).
package sasllogin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
)

const (
	// maxSteps bounds the messages of a login.
	maxSteps = 32
	// maxLifetime bounds how long a login lasts, whatever the broker says.
	maxLifetime = 365 * 24 * time.Hour
	// leastHaste is the least time by which a login is renewed before it ends.
	leastHaste = time.Second
	// maxDecoded bounds, in bytes, the memory of a decoded response.
	maxDecoded = 8 << 20
)

// Login is one login. It is for one goroutine at a time.
type Login struct {
	mechanisms []sasl.Mechanism
	host       string
	version    int16 // of SaslAuthenticate

	mechanism sasl.Mechanism
	retried   bool
	session   sasl.Session
	finished  bool // the client's side of the exchange is
	steps     int
	asked     time.Time // when the last request was made
	renewal   time.Time
}

// New begins a login at the broker at host, HOST:PORT, with the first of the mechanisms that the
// broker knows. version is that of SaslAuthenticate.
func New(mechanisms []sasl.Mechanism, host string, version int16) *Login {
	return &Login{mechanisms: mechanisms, host: host, version: version, mechanism: mechanisms[0]}
}

// First returns the first request.
func (l *Login) First() kmsg.Request {
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Version, req.Mechanism = 1, l.mechanism.Name()
	return req
}

// Next takes the body of the response to the last request, and returns the next request; nil if the
// client is logged in. It may compute for a while, as SCRAM does, or ask a server for a token.
func (l *Login) Next(ctx context.Context, body []byte) (kmsg.Request, error) {
	if l.session == nil {
		return l.handshaken(ctx, body)
	}
	took := time.Since(l.asked)
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = l.version
	if err := decode(resp, body); err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		if resp.ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *resp.ErrorMessage)
		}
		return nil, err
	}
	lifetime := time.Duration(min(resp.SessionLifetimeMillis, int64(maxLifetime/time.Millisecond))) * time.Millisecond
	l.renewal = renewal(l.asked, lifetime, took, rand.Float64())
	var out []byte
	if !l.finished {
		var err error
		if l.finished, out, err = l.session.Challenge(resp.SASLAuthBytes); err != nil {
			return nil, err
		}
	}
	if l.finished && len(out) == 0 {
		return nil, nil
	}
	return l.authenticate(out)
}

// handshaken takes the response to SaslHandshake.
func (l *Login) handshaken(ctx context.Context, body []byte) (kmsg.Request, error) {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.Version = 1
	if err := decode(resp, body); err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		i := slices.IndexFunc(l.mechanisms, func(m sasl.Mechanism) bool { return slices.Contains(resp.SupportedMechanisms, m.Name()) })
		if !errors.Is(err, kerr.UnsupportedSaslMechanism) || l.retried || i < 0 {
			return nil, fmt.Errorf("mechanism %s: %w", l.mechanism.Name(), err)
		}
		l.mechanism, l.retried = l.mechanisms[i], true
		return l.First(), nil
	}
	session, out, err := l.mechanism.Authenticate(ctx, l.host)
	if err != nil {
		return nil, err
	}
	l.session = session
	return l.authenticate(out)
}

func (l *Login) authenticate(out []byte) (kmsg.Request, error) {
	if l.steps++; l.steps > maxSteps {
		return nil, fmt.Errorf("%s does not finish", l.mechanism.Name())
	}
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.Version, req.SASLAuthBytes = l.version, out
	l.asked = time.Now()
	return req, nil
}

// Renewal returns when to log in again; zero = never.
func (l *Login) Renewal() time.Time { return l.renewal }

// renewal returns when to log in again after a login that was sent at began, took so long and lasts
// for lifetime; zero = never. The renewal is early by 2 to 5 % of the lifetime, at random, so that
// not all clients come at once. It is early by at least leastHaste and by at least twice the time
// that the login took, but never by more than half of the lifetime.
func renewal(began time.Time, lifetime, took time.Duration, chance float64) time.Time {
	if lifetime <= 0 {
		return time.Time{}
	}
	early := max(leastHaste, 2*took, time.Duration(float64(lifetime)*(0.02+0.03*chance)))
	return began.Add(max(lifetime-early, lifetime/2))
}

// decode decodes a response with kmsg. As kmsg trusts the counts in a response, decode checks them
// first.
func decode(resp kmsg.Response, body []byte) error {
	m, ok := protocol.MessageOf(resp.Key())
	if !ok {
		return fmt.Errorf("%w: no shape of %s", protocol.ErrMalformed, kmsg.NameForKey(resp.Key()))
	}
	if err := m.Response.CheckParts([][]byte{body}, resp.GetVersion(), resp.IsFlexible(), protocol.Limits{Memory: maxDecoded}); err != nil {
		return err
	}
	if err := resp.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrMalformed, err)
	}
	return nil
}
