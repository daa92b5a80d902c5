package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// sessionTimeout is the default of klink's setting session-timeout.
	sessionTimeout = 6 * time.Second
	// stateLease is the default of klink's setting state-lease.
	stateLease = 10 * time.Second
	// takeOverRounds are how many owners are killed: one that counts, and one more on each side of
	// it.
	takeOverRounds = 3
)

// arrivals notes when records of a topic come to the destination, as a reader there sees it.
type arrivals struct {
	mu   sync.Mutex
	last time.Time
	gaps []gap
}

// gap is a time without an arrival.
type gap struct{ from, to time.Time }

// startArrivals reads the topic around klink until the test ends.
func startArrivals(t testing.TB, destination *kafkatest.Cluster, topic string) *arrivals {
	t.Helper()
	a := &arrivals{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	cl := destination.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(500*time.Millisecond))
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if cl.PollFetches(ctx).NumRecords() > 0 {
				a.arrived(time.Now())
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

func (a *arrivals) arrived(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.last.IsZero() && now.Sub(a.last) > time.Second {
		a.gaps = append(a.gaps, gap{a.last, now})
	}
	a.last = now
}

// after is when the first record came after a gap that goes on at a time; false = none has.
func (a *arrivals) after(at time.Time) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.gaps {
		if g.from.Before(at) && g.to.After(at) {
			return g.to, true
		}
	}
	return time.Time{}, false
}

// TestTakeOverAfterKillNine: after kill -9 of the owner, the next owner appends its first record
// before a second session time-out has passed, in the middle of three rounds. So a take-over waits
// for one session time-out, and for nothing else. `klink bench instances` measures how long it
// takes.
func TestTakeOverAfterKillNine(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx := context.Background()
	const topic = "orders"
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 3)
	createLink(t, all[0], "east", source)
	all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
	all.awaitSpread(t)
	awaitMirrorState(t, all[0], topic, "ACTIVE", "")
	feeding, stop := context.WithCancel(ctx)
	var feed sync.WaitGroup
	producer := source.Client(t, kgo.DefaultProduceTopic(topic))
	feed.Go(func() {
		for i := 0; feeding.Err() == nil; i++ {
			producer.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), nil)
			pause(feeding, 5*time.Millisecond)
		}
	})
	defer feed.Wait()
	defer stop()
	seen := startArrivals(t, destination, topic)
	var took []time.Duration
	for round := range takeOverRounds {
		victim := all.owner(t, topic)
		time.Sleep(time.Second) // a record every few milliseconds, before it is killed
		rest := all.without(victim)
		killed := time.Now()
		victim.Kill()
		var began time.Time
		kafkatest.WaitFor(t, time.Minute, "the next owner to append", func() (ok bool, _ string) {
			began, ok = seen.after(killed.Add(500 * time.Millisecond))
			return ok, "no record has come"
		})
		took = append(took, began.Sub(killed))
		t.Logf("round %d: %v from kill -9 to the first append", round, began.Sub(killed).Round(time.Millisecond))
		rest.awaitSpread(t)
		victim.Restart()
		all.awaitSpread(t)
	}
	slices.Sort(took)
	if middle := took[len(took)/2]; middle > 2*sessionTimeout {
		t.Errorf("a take-over takes %v, want less than two session time-outs of %v; all rounds: %v", middle, sessionTimeout, took)
	}
}
