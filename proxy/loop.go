package proxy

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// scratchSize is what is decrypted at a time.
const scratchSize = 64 << 10

// loop is what this package adds to one gnet event loop. But for gnet, poller, pairs and ticking it
// belongs to the goroutine of the event loop.
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
	reads   *[]byte // into which gnet reads; see sizeReads
}

// smallRead is what an event brings at most while room for requests is short. Requests that are no
// larger pass.
const smallRead = 8 << 10

// sizeReads has the next event bring less while room for requests is short: nobody is asked before
// gnet reads. A client that sends more than that is paused after it; one that sends less goes on.
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

// execute runs f on the event loop, soon. A panic closes the connection x only. Nothing happens
// when the loop has ended.
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

// overdue closes a pair whose time for something is over, and says whether it did.
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

// loginOver is called when the time for the login is over. Some clients log in and then have
// nothing to say, so the broker is asked before the connection is closed.
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

// loginGrace is how long a broker has to say whether it serves a client whose time for the login is
// over.
const loginGrace = 5 * time.Second

// visitBy has the wheel visit the pair no later than at a tick.
func (x *pair) visitBy(due uint32) {
	if x.inWheel && int32(due-x.due) < 0 {
		x.loop.wheel.remove(x)
		x.loop.wheel.add(x, due)
	}
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
