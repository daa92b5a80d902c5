package mirror

import (
	"fmt"
	"slices"
	"time"
)

// plan is the order of the measurements. It also estimates how long the rest takes.
type plan struct {
	subjects []string
	legs     []leg
	budget   time.Duration // 0 = none
	began    time.Time
	steady   func(*workload) time.Duration
	// took is how long the latest run of a workload and a subject took, including its start and its
	// end.
	took   map[[2]string]time.Duration
	filled map[string]bool // workloads whose records the source has
	scale  float64
}

// leg is everything that is measured with one destination.
type leg struct {
	to    *destination
	turns []turn
	// until is the time since the beginning after which no further turn begins; 0 = none.
	until time.Duration
}

// turn is one round of a workload.
type turn struct {
	round int
	w     *workload
}

// turns returns all rounds of the major workloads, then those of the others. The rounds of a
// workload are not consecutive, so that changes in the machine affect all workloads.
func turns(ws []*workload, rounds int) (all []turn) {
	for _, major := range []bool{true, false} {
		for round := 1; round <= rounds; round++ {
			for _, w := range ws {
				if w.major == major {
					all = append(all, turn{round, w})
				}
			}
		}
	}
	return all
}

// newPlan makes one leg for each destination, so that the clusters of several destinations do not
// run at the same time. Each leg has its share of the budget, plus what earlier legs have left.
func newPlan(b *run) *plan {
	p := &plan{
		subjects: b.subjects, budget: b.o.Budget, began: b.began, steady: b.steadyOf, scale: b.o.Scale,
		took: map[[2]string]time.Duration{}, filled: map[string]bool{},
	}
	shares := 0.0
	for _, to := range destinations {
		var ws []*workload
		for i := range b.workloads {
			if b.workloads[i].destination() == to {
				ws = append(ws, &b.workloads[i])
			}
		}
		if len(ws) > 0 {
			p.legs = append(p.legs, leg{to: to, turns: turns(ws, b.o.Rounds)})
			shares += to.share
		}
	}
	sum := 0.0
	for i := range p.legs {
		sum += p.legs[i].to.share
		p.legs[i].until = time.Duration(float64(p.budget) * sum / shares)
	}
	return p
}

// How long a run is expected to take before any was measured, on two cores.
const (
	expectedStart      = 3 * time.Second // start and end: topics are made and deleted
	expectedJVM        = 6 * time.Second // additional start-up time of a JVM
	expectedCluster    = 8 * time.Second // per broker
	expectedMBPerSec   = 60
	expectedFillPerSec = 60
)

// run returns how long a run is expected to take: as long as the previous one.
func (p *plan) run(w *workload, subject string) time.Duration {
	if d, ok := p.took[[2]string{w.name, subject}]; ok {
		return d
	}
	d := expectedStart + time.Duration(float64(w.megabytes)*p.scale/expectedMBPerSec*float64(time.Second))
	if subject == MirrorMaker {
		d += expectedJVM
	}
	if w.rate > 0 && steadies(subject) {
		d += steadyWarmUp + p.steady(w)
	}
	return d
}

// turn returns how long a round of a workload is expected to take, including filling the source.
func (p *plan) turn(t turn) (d time.Duration) {
	for _, subject := range p.subjects {
		if runs(subject, t.w) {
			d += p.run(t.w, subject)
		}
	}
	if t.round == 1 && !p.filled[t.w.name] {
		d += time.Second + time.Duration(float64(t.w.megabytes)*p.scale/expectedFillPerSec*float64(time.Second))
	}
	return d
}

// fits reports whether a turn of a leg ends before the leg's time is up.
func (p *plan) fits(l *leg, t turn, now time.Time) bool {
	return p.budget == 0 || now.Sub(p.began)+p.turn(t) <= l.until
}

// begins reports whether any turn of a leg fits once its brokers have started.
func (p *plan) begins(l *leg, now time.Time) bool {
	ready := now.Add(expectedCluster * time.Duration(l.to.brokers))
	return slices.ContainsFunc(l.turns, func(t turn) bool { return p.fits(l, t, ready) })
}

// left returns how long the rest takes: the turns of a leg from the n-th on, and the legs after it.
func (p *plan) left(at, n int, now time.Time) time.Duration {
	elapsed := now.Sub(p.began)
	began := elapsed
	for i := at; i < len(p.legs); i++ {
		l := &p.legs[i]
		list := l.turns
		if i == at {
			list = l.turns[n:]
		} else if p.begins(l, p.began.Add(elapsed)) {
			elapsed += expectedCluster * time.Duration(l.to.brokers)
		}
		for _, t := range list {
			d := p.turn(t)
			if p.budget > 0 && elapsed+d > l.until {
				continue
			}
			elapsed += d
		}
	}
	return elapsed - began
}

// runCount returns the number of runs.
func (p *plan) runCount() (n int) {
	for _, l := range p.legs {
		for _, t := range l.turns {
			for _, subject := range p.subjects {
				if runs(subject, t.w) {
					n++
				}
			}
		}
	}
	return n
}

// text describes the plan.
func (p *plan) text(rounds int) string {
	var names []string
	for _, l := range p.legs {
		for _, t := range l.turns {
			if !slices.Contains(names, t.w.name) {
				names = append(names, t.w.name)
			}
		}
	}
	left := p.left(0, 0, p.began) + expectedCluster*time.Duration(1+p.legs[0].to.brokers)
	text := fmt.Sprintf("%d runs: %d workloads, %d rounds; this takes about %s", p.runCount(), len(names), rounds, about(left))
	if p.budget > 0 {
		text += fmt.Sprintf(", and no run begins after %s (--budget)", about(p.budget))
	}
	return text
}

// about formats a time the way people say it.
func about(d time.Duration) string {
	if d < 90*time.Second {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}
