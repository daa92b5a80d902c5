package kafkaclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// defaultSetup is how long opening a connection may take, TLS included. It is franz-go's default.
const defaultSetup = 10 * time.Second

// dialer opens the connections of clients: TCP, then TLS, then a guard around both.
type dialer struct {
	setup time.Duration
	tls   func() *tls.Config // as the files are now; nil = plaintext
	held  *atomic.Int64
}

// dialOpt is the option that sets a dialer. Unlike kgo.Dialer's it can be recognized among others.
type dialOpt struct {
	kgo.Opt
	dialer dialer
}

func (d dialer) opt() kgo.Opt { return dialOpt{Opt: kgo.Dialer(d.dial), dialer: d} }

// DialTimeout adds to the options of Properties.Options a limit on the time to open a connection,
// TLS included. Use it in place of kgo.DialTimeout, which does not reach the dialer.
func DialTimeout(opts []kgo.Opt, timeout time.Duration) []kgo.Opt {
	all := append(slices.Clone(opts), kgo.DialTimeout(timeout))
	for _, o := range slices.Backward(opts) {
		if o, ok := o.(dialOpt); ok {
			o.dialer.setup = timeout
			return append(all, o.dialer.opt())
		}
	}
	return all
}

func (d dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return newGuard(conn, addr, d.held), nil
}

// connect does what franz-go's own dialer does.
func (d dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: cmp.Or(d.setup, defaultSetup)}
	if d.tls == nil {
		return plain.DialContext(ctx, network, addr)
	}
	config := d.tls().Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("the broker's address: %w", err)
		}
		config.ServerName = host
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, network, addr)
}

// Unguarded returns the connection below the guard, for a caller that itself bounds what it reads.
// Nothing may have been read or written yet. A connection without a guard is returned as it is.
func Unguarded(conn net.Conn) net.Conn {
	if g, ok := conn.(*guard); ok {
		return g.Conn
	}
	return conn
}
