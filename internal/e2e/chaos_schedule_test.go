package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// faultKind is one way in which a machine or a network fails.
type faultKind string

const (
	faultKill  faultKind = "kill -9" // of the process; ended by a start
	faultCut   faultKind = "cut"     // connections reset and refused
	faultReset faultKind = "reset"   // connections reset once
	faultStall faultKind = "stall"   // connections open, no byte passes
	faultDelay faultKind = "delay"   // every byte late
)

// faultTarget is what fails: klink, or a broker counted from 0.
type faultTarget struct {
	cluster string // "klink", "source" or "destination"
	broker  int
}

func (t faultTarget) String() string {
	if t.cluster == "klink" {
		return t.cluster
	}
	return fmt.Sprintf("%s broker %d", t.cluster, t.broker+1)
}

// fault is one fault of a schedule, from at to at+last after its begin.
type fault struct {
	kind     faultKind
	target   faultTarget
	at, last time.Duration
}

func (f fault) String() string { return fmt.Sprintf("%s of %s", f.kind, f.target) }

// weighted faults: what crashes a process is the most interesting, and a network fails in more ways.
var (
	processFaults = []faultKind{faultKill}
	brokerFaults  = []faultKind{faultKill, faultKill, faultCut, faultReset, faultStall, faultDelay}
)

// schedule is the faults of a run, in the order of their begin. It is a pure function of its arguments, so that a seed replays a run.
//
// Invariants: a target has one fault at a time; at most one destination broker is killed at a time, for with
// min.insync.replicas 2 of 3 the loss of two would rightly stop every append; every fault ends within the duration;
// between two faults of a target there is time to recover, in which something is mirrored.
func schedule(seed uint64, duration time.Duration, destinationBrokers int) []fault {
	rng := rand.New(rand.NewPCG(seed, 0x6b6c696e6b))
	var targets []faultTarget
	for range 2 { // as likely as two brokers
		targets = append(targets, faultTarget{cluster: "klink"})
	}
	targets = append(targets, faultTarget{cluster: "source"})
	for b := range destinationBrokers {
		targets = append(targets, faultTarget{cluster: "destination", broker: b})
	}
	const recovery = 2 * time.Second
	free := map[faultTarget]time.Duration{} // when the target may fail again
	var killed time.Duration                // when a destination broker may be killed again
	var out []fault
	for at := between(rng, time.Second, 2*time.Second); ; at += between(rng, 300*time.Millisecond, 3*time.Second) {
		f := fault{target: targets[rng.IntN(len(targets))], at: at, last: between(rng, 200*time.Millisecond, 5*time.Second)}
		kinds := brokerFaults
		if f.target.cluster == "klink" {
			kinds = processFaults
		}
		f.kind = kinds[rng.IntN(len(kinds))]
		if f.kind == faultReset {
			f.last = 0
		}
		if at >= duration {
			return out
		}
		crash := f.kind == faultKill && f.target.cluster == "destination"
		if at < free[f.target] || crash && at < killed || at+f.last > duration {
			continue
		}
		free[f.target] = at + f.last + recovery
		if crash {
			killed = at + f.last + recovery
		}
		out = append(out, f)
	}
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

// steps puts begins and ends in the order of time, an end before a begin at the same moment. A reset has no end.
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
	a, b := schedule(42, time.Hour, 3), schedule(42, time.Hour, 3)
	if !slices.Equal(a, b) {
		t.Fatal("the same seed gave two schedules")
	}
	if slices.Equal(a, schedule(43, time.Hour, 3)) {
		t.Fatal("two seeds gave the same schedule")
	}
	// A longer run begins as a shorter one with the same seed, so that a failure can be looked at in less time.
	short := schedule(42, time.Minute, 3)
	for i, f := range short {
		if f.at+f.last < 50*time.Second && f != a[i] {
			t.Fatalf("fault %d of the short run is %+v, of the long one %+v", i, f, a[i])
		}
	}
}

func TestScheduleKeepsItsInvariants(t *testing.T) {
	for seed := range uint64(200) {
		const duration = 5 * time.Minute
		faults := schedule(seed, duration, 3)
		if len(faults) < 30 {
			t.Errorf("seed %d: only %d faults in %v", seed, len(faults), duration)
		}
		kinds := map[string]bool{}
		active := map[faultTarget]faultKind{}
		for _, s := range steps(faults) {
			kinds[s.fault.String()] = true
			if s.at > duration {
				t.Fatalf("seed %d: %v at %v, after the end", seed, s.fault, s.at)
			}
			if !s.begin {
				if active[s.fault.target] != s.fault.kind {
					t.Fatalf("seed %d: %v ends at %v without a begin", seed, s.fault, s.at)
				}
				delete(active, s.fault.target)
				continue
			}
			if other, ok := active[s.fault.target]; ok {
				t.Fatalf("seed %d: %v at %v while it has a %s", seed, s.fault, s.at, other)
			}
			if s.fault.kind == faultKill && s.fault.target.cluster == "destination" {
				for target, kind := range active {
					if kind == faultKill && target.cluster == "destination" {
						t.Fatalf("seed %d: two destination brokers down at %v", seed, s.at)
					}
				}
			}
			if s.fault.last > 0 {
				active[s.fault.target] = s.fault.kind
			}
		}
		if len(active) > 0 {
			t.Fatalf("seed %d: never ended: %v", seed, active)
		}
		for _, want := range []string{"kill -9 of klink", "kill -9 of source broker 1"} {
			if !kinds[want] {
				t.Errorf("seed %d: no %s in %v", seed, want, duration)
			}
		}
	}
}
