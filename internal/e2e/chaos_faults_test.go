package e2e

import (
	"testing"
	"time"

	"klink/internal/kafkatest"
)

// breaker carries out the faults of a schedule on a source, a destination and the klink between them. Everything runs
// on the goroutine of the test.
type breaker struct {
	source, destination *kafkatest.Cluster
	k                   *Klink
	active              map[faultTarget]fault
	made                map[faultKind]int
}

func newBreaker(source, destination *kafkatest.Cluster, k *Klink) *breaker {
	return &breaker{source, destination, k, map[faultTarget]fault{}, map[faultKind]int{}}
}

func (b *breaker) broker(t faultTarget) *kafkatest.Broker {
	if t.cluster == "source" {
		return b.source.Brokers()[t.broker]
	}
	return b.destination.Brokers()[t.broker]
}

// begin makes a fault happen.
func (b *breaker) begin(f fault) {
	b.made[f.kind]++
	if f.last > 0 {
		b.active[f.target] = f
	}
	if f.target.cluster == "klink" {
		b.k.Kill()
		return
	}
	broker := b.broker(f.target)
	switch f.kind {
	case faultKill:
		broker.Kill()
	case faultCut:
		broker.Faults().Cut()
	case faultReset:
		broker.Faults().Reset()
	case faultStall:
		broker.Faults().Stall()
	case faultDelay:
		broker.Faults().Delay(200 * time.Millisecond)
	}
}

// end heals a fault. Starting klink waits until it is ready, which needs a majority of the brokers to be reachable, so
// what stands in the way of that is healed first.
func (b *breaker) end(t testing.TB, f fault) {
	t.Helper()
	if _, ok := b.active[f.target]; !ok {
		return // healed before its time
	}
	delete(b.active, f.target)
	if f.target.cluster == "klink" {
		for target, other := range b.active {
			if target.cluster == "destination" {
				b.end(t, other)
			}
		}
		b.k.Restart()
		return
	}
	broker := b.broker(f.target)
	switch f.kind {
	case faultKill:
		broker.Restart(t)
	case faultCut, faultStall:
		broker.Faults().Resume()
	case faultDelay:
		broker.Faults().Delay(0)
	}
}

// endAll heals everything, klink last.
func (b *breaker) endAll(t testing.TB) {
	t.Helper()
	for target, f := range b.active {
		if target.cluster != "klink" {
			b.end(t, f)
		}
	}
	for _, f := range b.active {
		b.end(t, f)
	}
}

// run carries out the schedule. Its clock stands still while a process starts, so that there is as much time between
// faults on a busy machine; after twice the time that was planned the rest is left out. It returns the number of faults.
func (b *breaker) run(t testing.TB, faults []fault, duration time.Duration) int {
	t.Helper()
	start := time.Now()
	var still time.Duration // the clock stood
	for _, s := range steps(faults) {
		time.Sleep(s.at + still - time.Since(start)) // the schedule's own time, nothing is awaited
		now := time.Since(start)
		if !s.begin {
			b.end(t, s.fault)
		} else if now > 2*duration {
			t.Logf("%6.1fs the rest of the schedule is left out: this machine takes twice the time planned", now.Seconds())
			break
		} else {
			t.Logf("%6.1fs %v for %v", now.Seconds(), s.fault, s.fault.last.Round(time.Millisecond))
			b.begin(s.fault)
		}
		still += time.Since(start) - now
	}
	b.endAll(t)
	n := 0
	for _, m := range b.made {
		n += m
	}
	return n
}
