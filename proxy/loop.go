package proxy

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// scratchSize is how many bytes are decrypted at a time.
const scratchSize = 64 << 10

// loop is the state that this package adds to one gnet event loop. Only the goroutine of the event
// loop uses it, except for gnet, poller, pairs and ticking.
type loop struct {
	proxy  *Proxy
	gnet   gnet.EventLoop
	poller poller
	// pairs counts the connections on the loop. New connections go to the loop with the fewest.
	pairs   atomic.Int32
	ticking atomic.Bool

	wheel   wheel
	entries []*entry // free ones
	scratch []byte
	reads   *[]byte // the buffer into which gnet reads; see sizeReads
}

// smallRead is the most that one event delivers while room for requests is short. Requests up to
// that size still pass.
const smallRead = 8 << 10

// sizeReads limits what the next event delivers while room for requests is short, because gnet
// reads without asking. A client that sends more is paused after that event; a client that sends
// less goes on.
func (l *loop) sizeReads() {
	if l.reads == nil {
		return
	}
	size := readBuffer
	if l.proxy.budget.tight(l.proxy.config.Loops) {
		size = smallRead
	}
	if len(*l.reads) != size {
		*l.reads = (*l.reads)[:size]
	}
}

// execute queues f to run on the event loop. If f panics, only the connection x is closed. If the
// loop has ended, f does not run.
func (l *loop) execute(x *pair, f func()) {
	_ = l.gnet.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		defer x.recoverPanic()
		f()
		return nil
	}))
}

// executeLoop queues f to run on the event loop, on behalf of no single connection.
func (l *loop) executeLoop(f func()) error {
	return l.gnet.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		defer l.proxy.recoverLoop()
		f()
		return nil
	}))
}

// tick makes the loop advance its wheel. gnet's ticker goroutine calls it.
func (l *loop) tick() {
	if l.ticking.Swap(true) {
		return // the loop is busy; it will catch up
	}
	if l.executeLoop(l.turn) != nil {
		l.ticking.Store(false)
	}
}

// turn advances the wheel to the current time.
func (l *loop) turn() {
	l.ticking.Store(false)
	now := uint32(time.Since(l.proxy.epoch) / l.proxy.tickLength)
	for l.wheel.now != now {
		l.wheel.tick((*pair).visit)
	}
}

// visit checks the deadlines of the pair. The wheel calls it, and has removed the pair before.
func (x *pair) visit() {
	defer x.recoverPanic()
	now := x.loop.wheel.now
	idle := x.proxy.ticks(x.proxy.config.IdleTimeout)
	due := x.last + idle
	if x.closeBy == 0 && x.overdue(now) {
		return
	}
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
		for _, by := range [...]uint32{x.loginBy, x.frameBy, x.laneBy} {
			if by != 0 && int32(by-due) < 0 {
				due = by
			}
		}
		if now-x.last >= x.proxy.ticks(slimAfter) {
			x.slim()
		} else {
			due = x.slimTime(due)
		}
	}
	x.loop.wheel.add(x, due)
}

// overdue closes a pair that has passed one of its deadlines, and reports whether it did.
func (x *pair) overdue(now uint32) bool {
	over := func(by uint32) bool { return by != 0 && int32(now-by) >= 0 }
	switch {
	case over(x.laneBy):
		x.kill(ReasonMemory, errMemory)
	case over(x.frameBy):
		if !x.client.paused || x.starved {
			x.kill(ReasonFrameTime, fmt.Errorf("a request was not complete after %v (frame time-out)", x.proxy.config.FrameTimeout))
			break
		}
		x.frameBy = max(now+x.proxy.ticks(x.proxy.config.FrameTimeout), 1)
	case over(x.loginBy):
		x.loginOver(now)
	}
	return x.state == dead
}

// loginOver is called when the login time-out has passed. Some clients log in and then send
// nothing, so klink asks the broker before it closes the connection.
func (x *pair) loginOver(now uint32) {
	config := &x.proxy.config
	switch {
	case x.known() || x.asked && !config.SASL:
		x.loginBy = 0
	case x.asked && x.state == open && !x.lastChance && len(x.fifo) == 0 && !x.unfinished():
		x.lastChance = true
		x.loginBy = max(now+x.proxy.ticks(min(config.LoginTimeout, loginGrace)), 1)
		x.prove()
		x.advance()
	default:
		what := "no login"
		if !config.SASL {
			what = "no request"
		}
		x.kill(ReasonLogin, fmt.Errorf("%s after %v (login time-out)", what, config.LoginTimeout))
	}
}

// loginGrace is how long, after the login time-out, a broker has to show that it serves the client.
const loginGrace = 5 * time.Second

// visitBy makes the wheel visit the pair no later than at the tick due.
func (x *pair) visitBy(due uint32) {
	if x.inWheel && int32(due-x.due) < 0 {
		x.loop.wheel.remove(x)
		x.loop.wheel.add(x, due)
	}
}

// touch records that bytes have moved.
func (x *pair) touch() { x.last = x.loop.wheel.now }

// deadline makes the wheel close the pair after d at the latest.
func (x *pair) deadline(d time.Duration) {
	x.closeBy = max(x.loop.wheel.now+x.proxy.ticks(d), 1)
	if x.inWheel {
		x.loop.wheel.remove(x)
		x.loop.wheel.add(x, x.closeBy)
	}
}
