package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

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
)

// login authenticates, or authenticates again (KIP-368), if the client has SASL mechanisms.
func (c *Conn) login(ctx context.Context) error {
	if len(c.d.mechanisms) == 0 {
		return nil
	}
	m, err := c.handshake()
	if err != nil {
		return err
	}
	session, out, err := m.Authenticate(ctx, c.addr)
	if err != nil {
		return err
	}
	began, lifetime := time.Now(), time.Duration(0)
	for done, step := false, 0; !done || len(out) > 0; step++ {
		if step == maxSteps {
			return fmt.Errorf("%s does not finish", m.Name())
		}
		began = time.Now()
		resp, err := c.authenticate(out)
		if err != nil {
			return err
		}
		lifetime = time.Duration(min(resp.SessionLifetimeMillis, int64(maxLifetime/time.Millisecond))) * time.Millisecond
		out = nil
		if !done {
			if done, out, err = session.Challenge(resp.SASLAuthBytes); err != nil {
				return err
			}
		}
	}
	c.expiry = renewal(began, lifetime, time.Since(began), rand.Float64())
	return nil
}

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

// handshake agrees on a mechanism with the broker: our first one, or else our first one that the
// broker knows.
func (c *Conn) handshake() (sasl.Mechanism, error) {
	if c.versions.handshake.max < 1 || c.versions.authenticate.max < 0 {
		return nil, fmt.Errorf("%w: %s does not support SaslAuthenticate (KIP-152)", kerr.UnsupportedVersion, c.addr)
	}
	m := c.d.mechanisms[0]
	for retry := false; ; retry = true {
		req := kmsg.NewPtrSASLHandshakeRequest()
		req.Version, req.Mechanism = 1, m.Name()
		body, err := c.control(req)
		if err != nil {
			return nil, err
		}
		resp := kmsg.NewPtrSASLHandshakeResponse()
		resp.Version = req.Version
		if err := decode(resp, body); err != nil {
			return nil, err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if err == nil {
			return m, nil
		}
		i := slices.IndexFunc(c.d.mechanisms, func(m sasl.Mechanism) bool { return slices.Contains(resp.SupportedMechanisms, m.Name()) })
		if !errors.Is(err, kerr.UnsupportedSaslMechanism) || retry || i < 0 {
			return nil, fmt.Errorf("mechanism %s: %w", m.Name(), err)
		}
		m = c.d.mechanisms[i]
	}
}

func (c *Conn) authenticate(out []byte) (*kmsg.SASLAuthenticateResponse, error) {
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.Version = min(c.versions.authenticate.max, 2)
	req.SASLAuthBytes = out
	body, err := c.control(req)
	if err != nil {
		return nil, err
	}
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = req.Version
	if err := decode(resp, body); err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		if resp.ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *resp.ErrorMessage)
		}
		return nil, err
	}
	return resp, nil
}
