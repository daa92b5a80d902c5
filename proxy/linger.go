package proxy

import "time"

// linger saves gnet's loop a detour. After its events gnet asks epoll for more without waiting; if there are none it yields to the Go
// scheduler, and only then it waits. The yield wakes another thread, for nothing: on one connection that asks and waits, that took a quarter
// of the CPU time. So at the end of an event this package waits for the next one itself (without taking it), and gnet finds it at once.
//
// It must not wait while the loop has something to do: it does not when a task was given to it or the proxy stops (what comes later wakes
// it up, since it makes the epoll descriptor readable), and other sockets with events end the wait at once. A loop on which that happens is busy:
// it goes without for a while. And now and then gnet's yield is let through, for goroutines that wait for this processor.
type linger struct {
	skip  int // events that go without
	waits int
}

const (
	lingerTurns = 8                    // every so many waits, one is left to gnet
	lingerBusy  = 64                   // events without waiting after one that was in vain
	lingerFast  = 3 * time.Microsecond // a wait that is over sooner was in vain
)

// lingering waits for the next event of the loop. To be called last in an event.
func (l *loop) lingering() {
	g := &l.linger
	if g.skip > 0 {
		g.skip--
		return
	}
	if g.waits++; g.waits%lingerTurns == 0 || l.tasks.Load() > 0 || l.proxy.stopping.Load() {
		return
	}
	began := time.Now()
	l.poller.wait()
	if time.Since(began) < lingerFast {
		g.skip = lingerBusy
	}
}
