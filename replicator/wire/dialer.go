package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Dialer makes connections as a franz-go client does, with the same address resolution, TLS, SASL,
// client id and time-outs.
type Dialer struct {
	dial       func(ctx context.Context, network, addr string) (net.Conn, error)
	mechanisms []sasl.Mechanism
	clientID   string
	setup      time.Duration // limit for dialing, without TLS and what follows
	overhead   time.Duration // limit for a request, without its wait at the broker
	most       *kversion.Versions
}

// DialerOf returns a dialer with the options of cl.
func DialerOf(cl *kgo.Client) *Dialer {
	d := &Dialer{}
	d.dial, _ = cl.OptValue(kgo.Dialer).(func(context.Context, string, string) (net.Conn, error))
	d.mechanisms, _ = cl.OptValue(kgo.SASL).([]sasl.Mechanism)
	d.clientID, _ = cl.OptValue(kgo.ClientID).(string)
	d.setup, _ = cl.OptValue(kgo.DialTimeout).(time.Duration)
	d.overhead, _ = cl.OptValue(kgo.RequestTimeoutOverhead).(time.Duration)
	d.most, _ = cl.OptValue(kgo.MaxVersions).(*kversion.Versions)
	d.setup, d.overhead = cmp.Or(d.setup, 10*time.Second), cmp.Or(d.overhead, 10*time.Second)
	return d
}

// ClientID returns the client id of requests.
func (d *Dialer) ClientID() string { return d.clientID }

// UnsentError says that no byte of a request was sent, so that the broker has not seen it and never
// will.
type UnsentError struct{ Err error }

func (e *UnsentError) Error() string { return e.Err.Error() }
func (e *UnsentError) Unwrap() error { return e.Err }

// Connect connects to a broker: TLS, versions, login. The connection ends when ctx does. An error
// is an *UnsentError.
func (d *Dialer) Connect(ctx context.Context, addr string) (*Conn, error) {
	c, err := d.connect(ctx, addr)
	if err != nil {
		return nil, &UnsentError{fmt.Errorf("connect to %s: %w", addr, err)}
	}
	return c, nil
}

func (d *Dialer) connect(ctx context.Context, addr string) (*Conn, error) {
	if d.dial == nil {
		return nil, errors.New("no dialer")
	}
	dctx, cancel := context.WithTimeout(ctx, d.setup)
	defer cancel()
	nc, err := d.dial(dctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// A Conn itself bounds what it reads.
	c := newConn(d, kafkaclient.Unguarded(nc), addr)
	c.follow(ctx)
	if err := c.begin(ctx); err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

// begin asks for the broker's versions and logs in.
func (c *Conn) begin(ctx context.Context) error {
	if err := c.negotiate(); err != nil {
		return fmt.Errorf("ApiVersions: %w", err)
	}
	if err := c.login(ctx); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return nil
}
