package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"
)

// breaker carries out the faults of a schedule on a source, a destination and the klink between
// them. Everything runs on the goroutine of the test, but for foreign writes.
type breaker struct {
	source, destination *kafkatest.Cluster
	instances           instances
	victim              int // the instance that is killed, or was last
	foreign             *foreignWriter
	partitions          []topicPartition // of mirrors, whose leaders are lost
	active              map[faultTarget]fault
	lost                *kafkatest.Broker // by the active fault of a leader
	made                map[faultKind]int
	begun               time.Time
}

type topicPartition struct {
	topic     string
	partition int32
}

func newBreaker(source, destination *kafkatest.Cluster, all instances, foreign *foreignWriter, partitions []topicPartition) *breaker {
	return &breaker{
		source: source, destination: destination, instances: all, foreign: foreign, partitions: partitions,
		active: map[faultTarget]fault{}, made: map[faultKind]int{}, begun: time.Now(),
	}
}

// say logs with the time since the begin, and the time of day, by which the logs of klink and the
// brokers go.
func (b *breaker) say(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("%6.1fs %s %s", time.Since(b.begun).Seconds(), time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

func (b *breaker) broker(t faultTarget) *kafkatest.Broker {
	switch t.cluster {
	case "source":
		return b.source.Brokers()[t.broker]
	case "leader":
		return b.lost
	}
	return b.destination.Brokers()[t.broker]
}

// begin makes a fault happen.
func (b *breaker) begin(t testing.TB, f fault) {
	t.Helper()
	if f.target.cluster == "leader" && !b.choose(t, f) {
		return
	}
	b.say(t, "%v for %v", f, f.last.Round(time.Millisecond))
	b.made[f.kind]++
	if f.last > 0 {
		b.active[f.target] = f
	}
	switch f.target.cluster {
	case "klink":
		b.victim = (b.victim + 1) % len(b.instances)
		b.instances[b.victim].Kill()
		return
	case "mirror":
		b.foreign.write(f.pick)
		return
	}
	broker := b.broker(f.target)
	switch f.kind {
	case faultKill:
		broker.Kill()
	case faultLoss:
		broker.Kill()
		broker.LoseLogs(t)
	case faultCut:
		broker.Faults().Cut()
	case faultReset:
		broker.Faults().Reset()
	case faultStall:
		broker.Faults().Stall()
	case faultDeaf:
		broker.Faults().StallRequests()
	case faultMute:
		broker.Faults().StallAnswers()
	case faultDelay:
		broker.Faults().Delay(200 * time.Millisecond)
	}
}

// choose finds the broker whose turn it is to be lost. Logs may be lost only where every partition
// has all its replicas: else what was acknowledged is lost by Kafka itself.
func (b *breaker) choose(t testing.TB, f fault) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := b.partitions[int(f.pick)%len(b.partitions)]
	for ctx.Err() == nil {
		ok, state := b.destination.InSync(ctx)
		leader, err := b.destination.Leader(ctx, p.topic, p.partition)
		if ok && err == nil && leader != nil {
			b.say(t, "%s-%d is led by destination broker %d", p.topic, p.partition, leader.ID())
			b.lost = leader
			return true
		}
		b.say(t, "before the %v: %s, leader of %s-%d %v %v", f, state, p.topic, p.partition, leader, err)
		pause(ctx, 500*time.Millisecond)
	}
	b.say(t, "the %v is left out: the destination has not become whole", f)
	return false
}

// end heals a fault. Starting klink waits until it is ready, which needs a majority of the brokers
// to be reachable, so what stands in the way of that is healed first.
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
		b.instances[b.victim].Restart()
		b.say(t, "klink is back")
		return
	}
	broker := b.broker(f.target)
	switch f.kind {
	case faultKill, faultLoss:
		broker.Restart(t)
		b.say(t, "%v is over: broker %d is back", f, broker.ID())
	case faultCut, faultStall, faultDeaf, faultMute:
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

// run carries out the schedule. Its clock stands still while a process starts, so that there is as
// much time between faults on a busy machine; after twice the time that was planned the rest is
// left out. It returns the number of faults.
func (b *breaker) run(t testing.TB, faults []fault, duration time.Duration) int {
	t.Helper()
	start := time.Now()
	b.begun = start
	var still time.Duration // the clock stood
	for _, s := range steps(faults) {
		time.Sleep(s.at + still - time.Since(start)) // the schedule's own time, nothing is awaited
		now := time.Since(start)
		if !s.begin {
			b.end(t, s.fault)
		} else if now > 2*duration {
			b.say(t, "the rest of the schedule is left out: this machine takes twice the time planned")
			break
		} else {
			b.begin(t, s.fault)
		}
		still += time.Since(start) - now
	}
	b.endAll(t)
	b.say(t, "everything is healed")
	b.foreign.wait()
	n := 0
	for _, m := range b.made {
		n += m
	}
	return n
}
