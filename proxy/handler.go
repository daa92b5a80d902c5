package proxy

import (
	"runtime/debug"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// handler receives gnet's events. The gnet context of a connection is its *side. Connections that
// Start makes to get hold of the event loops have none.
type handler struct {
	gnet.BuiltinEventEngine
	proxy *Proxy
}

// OnOpen is called on the event loop once gnet reads from the socket.
func (h *handler) OnOpen(c gnet.Conn) (out []byte, action gnet.Action) {
	s, ok := c.Context().(*side)
	if !ok {
		return nil, gnet.None
	}
	x := s.pair
	defer x.recoverPanic()
	if x.state == dead || s.closed {
		return nil, gnet.Close
	}
	if s.upstream {
		if x.state != opening {
			return nil, gnet.Close
		}
		s.conn, s.fd = c, c.Fd()
		if x.upLayer != nil {
			x.upLayer.attach(s)
			x.upLayer = nil
		}
		x.state = open
		return nil, gnet.None
	}
	s.conn, s.fd = c, c.Fd()
	x.touch()
	left := h.proxy.config.LoginTimeout - time.Since(x.accepted)
	x.loginBy = max(x.last+h.proxy.ticks(left), 1)
	x.loop.wheel.add(x, x.slimTime(min(x.last+h.proxy.ticks(h.proxy.config.IdleTimeout), x.loginBy)))
	x.enter()
	return nil, gnet.None
}

// OnTraffic is called after one read from the socket.
func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	s, ok := c.Context().(*side)
	if !ok {
		_, _ = c.Discard(-1)
		return gnet.None
	}
	s.pair.traffic(s, c)
	return gnet.None
}

// traffic handles the bytes that were read from a side's socket.
func (x *pair) traffic(s *side, c gnet.Conn) {
	defer x.recoverPanic()
	p, err := c.Next(-1) // a part of the loop's read buffer; nothing is left with gnet
	if err != nil || x.state == dead || s.fd < 0 {
		return
	}
	x.touch()
	x.unslim()
	if s.upstream {
		x.proxy.stats.UpstreamReceived.Add(int64(len(p)))
	} else {
		x.proxy.stats.ClientReceived.Add(int64(len(p)))
	}
	s.received(p)
	x.advance()
	if s.tls != nil {
		s.tls.keep()
		x.account()
		if !s.upstream && s.tls != nil && s.tls.pipe.kept.len() > 0 && !x.proxy.budget.grow(x, 0) {
			x.kill(ReasonMemory, errMemory)
		}
	}
}

// OnClose is called before gnet closes the socket, whether the peer or klink closed it.
func (h *handler) OnClose(c gnet.Conn, _ error) gnet.Action {
	s, ok := c.Context().(*side)
	if !ok || s.conn == nil {
		return gnet.None
	}
	x := s.pair
	defer x.recoverPanic()
	s.gone()
	x.sideClosed(s)
	return gnet.None
}

// OnTick is called on a goroutine of its own.
func (h *handler) OnTick() (time.Duration, gnet.Action) {
	for _, l := range h.proxy.eventLoops() {
		l.tick()
	}
	h.proxy.budget.wake()
	h.proxy.collect()
	return h.proxy.tickLength, gnet.None
}

// recoverLoop recovers from a panic, so that the event loop goes on. Defer it.
func (p *Proxy) recoverLoop() {
	if v := recover(); v != nil {
		p.panicked(v, debug.Stack())
	}
}

func (p *Proxy) panicked(v any, stack []byte) {
	p.stats.Panics.Add(1)
	p.config.Logger.Error("panic; this is a bug in klink, the connection is closed", "panic", v, "stack", string(stack))
}
