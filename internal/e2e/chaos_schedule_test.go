package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// faultKind is one way in which a machine, a network or a neighbour fails.
type faultKind string

const (
	faultKill    faultKind = "kill -9"          // of the process; ended by a start
	faultLoss    faultKind = "kill -9 and loss" // of the process and its logs; ended by a start without them
	faultCut     faultKind = "cut"              // connections reset and refused
	faultReset   faultKind = "reset"            // connections reset once
	faultStall   faultKind = "stall"            // connections open, no byte passes
	faultDeaf    faultKind = "deaf stall"       // requests do not arrive
	faultMute    faultKind = "mute stall"       // requests are carried out, answers do not arrive
	faultDelay   faultKind = "delay"            // every byte late
	faultForeign faultKind = "foreign write"    // somebody writes into a mirror around klink
)

// faultKinds are all, in the order in which they are counted.
var faultKinds = []faultKind{faultKill, faultLoss, faultCut, faultReset, faultStall, faultDeaf, faultMute, faultDelay, faultForeign}

// faultTarget is what fails.
type faultTarget struct {
	// cluster is "klink", "source" or "destination"; "leader" for the destination broker that leads
	// a partition when the fault begins, "mirror" for a mirror written to around klink.
	cluster string
	broker  int // of source and destination, counted from 0
}

func (t faultTarget) String() string {
	switch t.cluster {
	case "klink":
		return t.cluster
	case "leader":
		return "the destination broker that leads a mirror partition"
	case "mirror":
		return "a mirror, around klink"
	}
	return fmt.Sprintf("%s broker %d", t.cluster, t.broker+1)
}

// kills says whether a destination broker is down meanwhile.
func (f fault) kills() bool {
	return (f.kind == faultKill || f.kind == faultLoss) && (f.target.cluster == "destination" || f.target.cluster == "leader")
}

// fault is one fault of a schedule, from at to at+last after its begin.
type fault struct {
	kind     faultKind
	target   faultTarget
	at, last time.Duration
	pick     uint32 // chooses what is only known when it begins: a partition
}

func (f fault) String() string { return fmt.Sprintf("%s of %s", f.kind, f.target) }

// deck is the faults that are made before any is made again, shuffled: so a short run has some of
// each, and a long one as many of each as its share. What crashes a process is the most
// interesting.
func deck(rng *rand.Rand, destinationBrokers int) []fault {
	brokerFaults := []faultKind{faultKill, faultKill, faultCut, faultReset, faultStall, faultDeaf, faultMute, faultDelay}
	var out []fault
	for range 6 {
		out = append(out, fault{kind: faultKill, target: faultTarget{cluster: "klink"}})
	}
	for _, kind := range brokerFaults {
		out = append(out, fault{kind: kind, target: faultTarget{cluster: "source"}},
			fault{kind: kind, target: faultTarget{cluster: "destination", broker: rng.IntN(destinationBrokers)}})
	}
	out = append(out, fault{kind: faultForeign, target: faultTarget{cluster: "mirror"}}, fault{kind: faultForeign, target: faultTarget{cluster: "mirror"}})
	for i := range out {
		out[i].last = between(rng, 200*time.Millisecond, 5*time.Second)
		if out[i].kind == faultReset || out[i].kind == faultForeign {
			out[i].last = 0
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	// Down for longer than the cluster waits for a broker (6 s), so that others lead. Early, since
	// a run has to hold them whole.
	for i, kind := range []faultKind{faultLoss, faultKill} {
		f := fault{kind: kind, target: faultTarget{cluster: "leader"}, last: between(rng, 10*time.Second, 15*time.Second)}
		out = slices.Insert(out, rng.IntN(8)+i, f)
	}
	for i := range out {
		out[i].pick = rng.Uint32()
	}
	return out
}

// recovery is the time between two faults of a target, in which something is mirrored.
const recovery = 2 * time.Second

// schedule is the faults of a run, in the order of their begin. It is a pure function of its
// arguments, so that a seed replays a run.
//
// Invariants: a target has one fault at a time; at most one destination broker is killed at a time,
// for with min.insync.replicas 2 of 3 the loss of two would rightly stop every append; every fault
// ends within the duration; between two faults of a target there is time to recover.
func schedule(seed uint64, duration time.Duration, destinationBrokers int) []fault {
	rng := rand.New(rand.NewPCG(seed, 0x6b6c696e6b))
	free := map[faultTarget]time.Duration{} // when the target may fail again
	var killed time.Duration                // when a destination broker may be killed again
	var out, cards []fault
	for at := between(rng, time.Second, 2*time.Second); at < duration; at += between(rng, time.Second, 3*time.Second) {
		if len(cards) == 0 {
			cards = deck(rng, destinationBrokers)
		}
		i := slices.IndexFunc(cards, func(f fault) bool { return at >= free[f.target] && !(f.kills() && at < killed) })
		if i < 0 {
			continue
		}
		f := cards[i]
		cards = slices.Delete(cards, i, i+1)
		f.at = at
		free[f.target] = at + f.last + recovery
		if f.kills() {
			killed = at + f.last + recovery
		}
		if f.target.cluster == "leader" && at+f.last > duration {
			continue // not long enough to matter
		}
		f.last = min(f.last, duration-at)
		out = append(out, f)
	}
	return out
}

func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// step is the begin or the end of a fault.
type step struct {
	at    time.Duration
	begin bool
	fault fault
}

// steps puts begins and ends in the order of time, an end before a begin at the same moment. A
// reset has no end.
func steps(faults []fault) []step {
	var out []step
	for _, f := range faults {
		out = append(out, step{f.at, true, f})
		if f.last > 0 {
			out = append(out, step{f.at + f.last, false, f})
		}
	}
	slices.SortStableFunc(out, func(a, b step) int {
		switch {
		case a.at != b.at:
			return int(a.at - b.at)
		case a.begin == b.begin:
			return 0
		case a.begin:
			return 1
		}
		return -1
	})
	return out
}

func TestScheduleIsReplayable(t *testing.T) {
	t.Parallel()
	a, b := schedule(42, time.Hour, 3), schedule(42, time.Hour, 3)
	if !slices.Equal(a, b) {
		t.Fatal("the same seed gave two schedules")
	}
	if slices.Equal(a, schedule(43, time.Hour, 3)) {
		t.Fatal("two seeds gave the same schedule")
	}
	// A longer run begins as a shorter one with the same seed, so that a failure can be looked at
	// in less time.
	short := schedule(42, time.Minute, 3)
	for i, f := range short {
		if f.at < 40*time.Second && f != a[i] {
			t.Fatalf("fault %d of the short run is %+v, of the long one %+v", i, f, a[i])
		}
	}
}

func TestScheduleKeepsItsInvariants(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		faults := schedule(seed, chaosDuration, 3)
		made := map[string]bool{}
		active := map[faultTarget]faultKind{}
		down := 0
		for _, s := range steps(faults) {
			f := s.fault
			if s.at > chaosDuration {
				t.Fatalf("seed %d: %v at %v, after the end", seed, f, s.at)
			}
			if !s.begin {
				if active[f.target] != f.kind {
					t.Fatalf("seed %d: %v ends at %v without a begin", seed, f, s.at)
				}
				delete(active, f.target)
				if f.kills() {
					down--
				}
				continue
			}
			if other, ok := active[f.target]; ok {
				t.Fatalf("seed %d: %v at %v while it has a %s", seed, f, s.at, other)
			}
			if f.kills() {
				if down++; down > 1 {
					t.Fatalf("seed %d: two destination brokers down at %v", seed, s.at)
				}
			}
			if f.target.cluster == "leader" && f.last < 10*time.Second {
				t.Errorf("seed %d: %v for %v only", seed, f, f.last)
			}
			made[fmt.Sprintf("%s of %s", f.kind, f.target.cluster)] = true
			if f.last > 0 {
				active[f.target] = f.kind
			}
		}
		if len(active) > 0 {
			t.Fatalf("seed %d: never ended: %v", seed, active)
		}
		// The default run has every kind of fault, of everything that can have it.
		for _, f := range deck(rand.New(rand.NewPCG(0, 0)), 3) {
			if want := fmt.Sprintf("%s of %s", f.kind, f.target.cluster); !made[want] {
				t.Errorf("seed %d: no %s in %v, with %d faults", seed, want, chaosDuration, len(faults))
			}
		}
	}
}
