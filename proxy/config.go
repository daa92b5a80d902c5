package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"time"

	"klink/router"
)

// Config configures a Proxy. Listeners and Sessions are required; everything else has a default.
type Config struct {
	// Listeners are where clients connect. All lead to the same brokers, but each tells its clients
	// addresses of its own.
	Listeners []Listener
	// UpstreamTLS returns what is used towards brokers; nil = plaintext. klink asks it for each
	// connection, so that it may change. Without a ServerName, klink verifies the host that it
	// dials. It must have no certificate: a broker that identifies clients by certificate would
	// take every client for the owner of that certificate.
	UpstreamTLS func() *tls.Config
	// Dial opens a connection to a broker and returns a *net.TCPConn or *net.UnixConn. Default: a
	// net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout bounds connecting to a broker, including the TLS handshake. Default 10 s.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the TLS handshake of a client. Default 10 s.
	HandshakeTimeout time.Duration
	// MaxRequestBytes is the largest request frame, without its size prefix. Default 100 MiB, like
	// a broker's socket.request.max.bytes.
	MaxRequestBytes int
	// SASL tells the proxy that brokers require a login first. Until the login is proven, a request
	// may have at most 512 KiB.
	SASL bool
	// RequestMemory is the budget, in bytes, for what all clients have sent and no broker has taken
	// yet. It must be at least 16 MiB, and at least twice MaxRequestBytes. Default 512 MiB, or
	// twice MaxRequestBytes if that is more.
	RequestMemory int64
	// LoginTimeout bounds the time from accepting a connection until its login is proven; without
	// SASL, until its first request is complete. Default 30 s.
	LoginTimeout time.Duration
	// FrameTimeout bounds the time from the first byte of a request to its last, not counting time
	// in which klink does not want to read. Default 60 s.
	FrameTimeout time.Duration
	// MaxWholeResponse is the largest response that klink keeps whole in memory because a decision
	// asks for it. Default 64 MiB. Other responses have no limit, because klink does not keep them.
	MaxWholeResponse int
	// MaxConnections is the most client connections at one time; klink closes further ones at once.
	// 0 = no limit.
	MaxConnections int
	// MaxConnectionsPerIP is the most client connections of one address (for IPv6, of one /64);
	// klink closes further ones at once. 0 = no limit.
	MaxConnectionsPerIP int
	// MaxConnectionRate is how many connections all listeners together accept per second; others
	// wait. 0 = no limit.
	MaxConnectionRate int
	// MaxInFlight is the most requests of one connection that wait for an answer; klink does not
	// decide on later ones until then. A broker handles one request of a connection at a time, so
	// more than a few gain nothing. Default 4.
	MaxInFlight int
	// IdleTimeout closes connections on which no bytes move and no request is pending, like a
	// broker's connections.max.idle.ms. Default 10 min.
	IdleTimeout time.Duration
	// Loops is the number of event loops. Default GOMAXPROCS.
	Loops int
	// Gate finds out who clients are; nil = they log in at the brokers themselves.
	Gate Gate
	// Sessions makes the sessions that decide on requests.
	Sessions router.Sessions
	// Logger receives what operators should know. The proxy logs nothing per request. Default
	// slog.Default().
	Logger *slog.Logger
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// complete fills in the defaults and checks everything that can be checked without a socket.
func (c *Config) complete() error {
	if c.Sessions == nil {
		return errors.New("proxy: Config.Sessions is required")
	}
	if len(c.Listeners) == 0 {
		return errors.New("proxy: Config.Listeners is required")
	}
	c.Listeners = slices.Clone(c.Listeners)
	for i := range c.Listeners {
		if err := c.Listeners[i].complete(); err != nil {
			return err
		}
	}
	if c.UpstreamTLS != nil && len(c.UpstreamTLS().Certificates) > 0 {
		return errors.New("proxy: Config.UpstreamTLS has a certificate, so brokers would take every client for its owner")
	}
	for name, n := range map[string]int{
		"MaxRequestBytes": c.MaxRequestBytes, "MaxWholeResponse": c.MaxWholeResponse, "MaxConnections": c.MaxConnections,
		"MaxInFlight": c.MaxInFlight, "Loops": c.Loops, "IdleTimeout": int(c.IdleTimeout), "DialTimeout": int(c.DialTimeout),
		"HandshakeTimeout": int(c.HandshakeTimeout), "RequestMemory": int(c.RequestMemory), "LoginTimeout": int(c.LoginTimeout),
		"FrameTimeout": int(c.FrameTimeout), "MaxConnectionsPerIP": c.MaxConnectionsPerIP, "MaxConnectionRate": c.MaxConnectionRate,
	} {
		if n < 0 {
			return fmt.Errorf("proxy: Config.%s is negative: %d", name, n)
		}
	}
	setDefault(&c.DialTimeout, 10*time.Second)
	setDefault(&c.HandshakeTimeout, 10*time.Second)
	setDefault(&c.MaxRequestBytes, 100<<20)
	setDefault(&c.RequestMemory, max(512<<20, 2*int64(c.MaxRequestBytes)))
	if least := max(minMemory, 2*int64(c.MaxRequestBytes)); c.RequestMemory < least {
		return fmt.Errorf("proxy: Config.RequestMemory is %d, less than %d", c.RequestMemory, least)
	}
	setDefault(&c.LoginTimeout, 30*time.Second)
	setDefault(&c.FrameTimeout, 60*time.Second)
	setDefault(&c.MaxWholeResponse, 64<<20)
	setDefault(&c.MaxInFlight, 4)
	setDefault(&c.IdleTimeout, 10*time.Minute)
	setDefault(&c.Loops, runtime.GOMAXPROCS(0))
	setDefault(&c.Logger, slog.Default())
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return nil
}
