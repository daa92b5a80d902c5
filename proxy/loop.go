package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// scratchSize is what is decrypted at a time.
const scratchSize = 64 << 10

// loop is what this package adds to one gnet event loop. But for gnet, poller, pairs and ticking it belongs to the goroutine
// of the event loop.
type loop struct {
	proxy  *Proxy
	gnet   gnet.EventLoop
	poller poller
	// pairs is the number of connections, to choose the loop of the next one.
	pairs   atomic.Int32
	ticking atomic.Bool

	wheel   wheel
	entries []*entry // free ones
	scratch []byte
}

// execute runs f on the event loop, soon. A panic closes the connection x only. Nothing happens when the loop has ended.
func (l *loop) execute(x *pair, f func()) {
	_ = l.gnet.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		defer x.recoverPanic()
		f()
		return nil
	}))
}

// executeLoop runs f on the event loop, soon, and for no connection in particular.
func (l *loop) executeLoop(f func()) error {
	return l.gnet.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		defer l.proxy.recoverLoop()
		f()
		return nil
	}))
}

// tick is called on gnet's ticker goroutine.
func (l *loop) tick() {
	if l.ticking.Swap(true) {
		return // the loop is busy; it will catch up
	}
	if l.executeLoop(l.turn) != nil {
		l.ticking.Store(false)
	}
}

// turn brings the wheel up to the clock.
func (l *loop) turn() {
	l.ticking.Store(false)
	now := uint32(time.Since(l.proxy.epoch) / l.proxy.tickLength)
	for l.wheel.now != now {
		l.wheel.tick((*pair).visit)
	}
}

// visit is called by the wheel, which has let go of the pair.
func (x *pair) visit() {
	defer x.recoverPanic()
	now := x.loop.wheel.now
	idle := x.proxy.ticks(x.proxy.config.IdleTimeout)
	due := x.last + idle
	switch {
	case x.closeBy != 0:
		if int32(now-x.closeBy) >= 0 {
			x.kill(x.reason, x.err)
			return
		}
		due = x.closeBy
	case int32(now-due) >= 0:
		// Waiting for the broker is not idling; waiting for a client that does not read is.
		if len(x.fifo) == 0 || x.client.out.n > 0 {
			x.kill(ReasonIdle, nil)
			return
		}
		due = now + idle
	}
	if x.closeBy == 0 {
		if now-x.last >= x.proxy.ticks(slimAfter) {
			x.slim()
		} else {
			due = x.slimTime(due)
		}
	}
	x.loop.wheel.add(x, due)
}

// touch notes that something moves.
func (x *pair) touch() { x.last = x.loop.wheel.now }

// deadline closes the pair after d at the latest.
func (x *pair) deadline(d time.Duration) {
	x.closeBy = max(x.loop.wheel.now+x.proxy.ticks(d), 1)
	if x.inWheel {
		x.loop.wheel.remove(x)
		x.loop.wheel.add(x, x.closeBy)
	}
}
