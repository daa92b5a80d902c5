package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/panjf2000/gnet/v2"
)

var (
	errNoUpstream = errors.New("no broker address is known yet")
	errNotSocket  = errors.New("the dialler returned a connection that is neither TCP nor Unix")
	errNotOpened  = errors.New("the event loop could not take the connection")
)

// setUp puts an accepted connection on an event loop, after its TLS handshake. It runs on a
// goroutine of its own. The connection gets another one while its broker is dialled.
func (p *Proxy) setUp(l *listener, conn net.Conn, remote netip.AddrPort, counted bool) {
	x := &pair{proxy: p, entrance: l.entrance, target: l.target, remote: remote, counted: counted, accepted: time.Now()}
	x.client = side{pair: x, fd: -1}
	x.up = side{pair: x, fd: -1, upstream: true}
	reason, err := p.guarded(func() (Reason, error) { return p.enrollClient(x, conn) })
	if err == nil {
		return
	}
	_ = conn.Close()
	if p.setupCtx.Err() != nil {
		reason = ReasonDrain
	}
	if x.loop != nil { // the loop may already have its socket
		x.loop.execute(x, func() { x.kill(reason, err) })
		return
	}
	p.ended(reason, x.entrance, x.remote, x.target.id, x.counted, err)
}

// guarded calls f and turns a panic (in a callback of a TLS configuration, say) into an error.
func (p *Proxy) guarded(f func() (Reason, error)) (reason Reason, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.panicked(v, debug.Stack())
			reason, err = ReasonPanic, fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}

// enrollClient does the work of setUp. It returns nil once the connection belongs to its event
// loop.
func (p *Proxy) enrollClient(x *pair, conn net.Conn) (Reason, error) {
	if reason, err := x.meetClient(conn); err != nil {
		return reason, err
	}
	var layer *tlsLayer
	stream := conn
	if config := x.entrance.tls; config != nil {
		layer = &tlsLayer{pipe: &tlsPipe{Conn: conn}}
		layer.conn = tls.Server(layer.pipe, config)
		if err := handshake(p.setupCtx, layer.conn, min(p.config.HandshakeTimeout, p.config.LoginTimeout)); err != nil {
			return layer.handshakeReason(err)
		}
		if err := x.routeByName(layer.conn); err != nil {
			return ReasonServerName, err
		}
		stream = layer.conn
	}
	if p.config.Gate != nil {
		if reason, err := x.arrive(stream, layer); err != nil {
			return reason, err
		}
	}
	if layer != nil {
		layer.attach(&x.client)
	}
	x.loop = p.leastLoop()
	x.loop.pairs.Add(1)
	if err := enroll(x.loop.gnet, &x.client, conn); err != nil {
		return ReasonInternal, err
	}
	// A handshake may have read ahead, so process its bytes without waiting for more.
	x.loop.execute(x, func() {
		if x.client.conn == nil && !x.client.closed {
			x.kill(ReasonInternal, errNotOpened)
		}
		x.advance()
	})
	return 0, nil
}

// dial starts connecting to the broker, on a goroutine of its own. The attempt ends with the
// connection.
func (x *pair) dial() {
	p := x.proxy
	x.dialing = true
	var ctx context.Context
	ctx, x.cancelDial = context.WithCancel(p.setupCtx)
	p.runs.Go(func() {
		reason, err := p.guarded(func() (Reason, error) { return x.enrollBroker(ctx) })
		if err == nil {
			return
		}
		if p.setupCtx.Err() != nil {
			reason = ReasonDrain
		}
		x.loop.execute(x, func() { x.kill(reason, err) })
	})
}

// enrollBroker does the work of dial. It returns nil once the connection belongs to the event loop.
func (x *pair) enrollBroker(ctx context.Context) (Reason, error) {
	conn, layer, err := x.proxy.dialFor(ctx, x.target, x.guest)
	if err != nil {
		return reasonOf(err), err
	}
	x.upLayer = layer // for OnOpen
	return x.enrollConnected(conn)
}

// enrollConnected gives a connection to the broker to the event loop.
func (x *pair) enrollConnected(conn net.Conn) (Reason, error) {
	if err := enroll(x.loop.gnet, &x.up, conn); err != nil {
		_ = conn.Close()
		return ReasonInternal, err
	}
	x.loop.execute(x, func() {
		if x.state == opening {
			x.kill(ReasonInternal, errNotOpened)
		}
		x.advance()
	})
	return 0, nil
}

// enroll gives a socket to an event loop. When it returns, handler.OnOpen has been called.
func enroll(el gnet.EventLoop, s *side, conn net.Conn) error {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return fmt.Errorf("%w: %T", errNotSocket, conn)
	}
	results, err := el.Enroll(gnet.NewContext(context.Background(), s), conn)
	if err != nil {
		return err
	}
	if result := <-results; result.Err != nil {
		return fmt.Errorf("enroll a connection: %w", result.Err)
	}
	return nil
}

// leastLoop returns the loop with the fewest connections.
func (p *Proxy) leastLoop() *loop {
	loops := p.eventLoops()
	best := loops[0]
	for _, l := range loops[1:] {
		if l.pairs.Load() < best.pairs.Load() {
			best = l
		}
	}
	return best
}

// dialFor connects to a broker, and logs in there for a guest.
func (p *Proxy) dialFor(ctx context.Context, t *target, g Guest) (net.Conn, *tlsLayer, error) {
	if addr := t.addr.Load(); addr != nil {
		conn, layer, _, err := p.dial(ctx, []string{*addr}, g)
		return conn, layer, err
	}
	seeds := p.seeds.Load()
	conn, layer, addr, err := p.dial(ctx, seeds.inOrder(), g)
	if err == nil {
		seeds.answered(addr)
	}
	return conn, layer, err
}

// dial connects to the first address that answers. DialTimeout covers all attempts together.
func (p *Proxy) dial(ctx context.Context, addrs []string, g Guest) (conn net.Conn, layer *tlsLayer, addr string, err error) {
	if len(addrs) == 0 {
		return nil, nil, "", errNoUpstream
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.DialTimeout)
	defer cancel()
	var errs error
	for i, addr := range addrs {
		// Split the remaining time, so that one slow address does not use up the time of the
		// others.
		deadline, _ := ctx.Deadline()
		each, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		conn, layer, err := p.dialOne(each, addr, g)
		cancel()
		if err == nil {
			return conn, layer, addr, nil
		}
		errs = errors.Join(errs, fmt.Errorf("connect to broker %s: %w", addr, err))
		if reasonOf(err) == ReasonIdentity {
			break // the other brokers would not let it in, either
		}
	}
	return nil, nil, "", errs
}

func (p *Proxy) dialOne(ctx context.Context, addr string, g Guest) (net.Conn, *tlsLayer, error) {
	conn, err := p.config.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	config, err := p.tlsFor(addr, g)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	var layer *tlsLayer
	if config != nil {
		layer = &tlsLayer{pipe: &tlsPipe{Conn: conn}}
		layer.conn = tls.Client(layer.pipe, config)
		if err := handshake(ctx, layer.conn, p.config.DialTimeout); err != nil {
			_ = conn.Close()
			return nil, nil, fmt.Errorf("TLS handshake: %w", err)
		}
	}
	if g != nil {
		if err := logIn(ctx, g, conn, layer, addr); err != nil {
			return nil, nil, err
		}
	}
	return conn, layer, nil
}

// hostTLS is the TLS configuration for a broker, and the one that it was made from.
type hostTLS struct{ from, config *tls.Config }

// tlsFor returns the TLS configuration for a broker; nil = plaintext. All connections to one host
// share it until Config.UpstreamTLS returns another, because each tls.Conn keeps its configuration
// alive. A guest has its own.
func (p *Proxy) tlsFor(addr string, g Guest) (*tls.Config, error) {
	var config *tls.Config
	switch {
	case g != nil:
		config = g.TLS()
	case p.config.UpstreamTLS != nil:
		config = p.config.UpstreamTLS()
	}
	if config == nil || config.ServerName != "" {
		return config, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if g != nil {
		config = config.Clone()
		config.ServerName = host
		return config, nil
	}
	if known, ok := p.hosts.Load(host); ok && known.(hostTLS).from == config {
		return known.(hostTLS).config, nil
	}
	named := config.Clone()
	named.ServerName = host
	p.hosts.Store(host, hostTLS{from: config, config: named})
	return named, nil
}

func handshake(ctx context.Context, conn *tls.Conn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}
