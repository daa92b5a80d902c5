package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// progress is how the mirroring of a large topic went: when, and at the cost of how much CPU time
// of each process, each quarter of its batches was appended.
type progress struct {
	k       *Klink
	link    string
	pids    map[string]int
	before  int // batches that the link had appended before
	batches int
	marks   []mark // at the start and after each quarter
}

// mark is a moment.
type mark struct {
	at      time.Time
	batches int
	cpu     map[string]time.Duration
}

// startProgress begins with the processes pids, by name, before a link's only mirror is created.
func startProgress(t testing.TB, k *Klink, link string, pids map[string]int) *progress {
	t.Helper()
	p := &progress{k: k, link: link, pids: pids}
	p.before = p.appended(t)
	p.marks = append(p.marks, p.mark(t, 0))
	return p
}

func (p *progress) appended(t testing.TB) int {
	t.Helper()
	return int(p.k.metric(t, fmt.Sprintf("klink_link_append_batches_total{link=%q}", p.link)))
}

func (p *progress) mark(t testing.TB, batches int) mark {
	t.Helper()
	m := mark{at: time.Now(), batches: batches, cpu: map[string]time.Duration{}}
	for name, pid := range p.pids {
		m.cpu[name] = cpuTime(t, pid)
	}
	return m
}

// follow waits until so many batches are appended.
func (p *progress) follow(t testing.TB, batches int) {
	t.Helper()
	p.batches = batches
	deadline := time.Now().Add(15 * time.Minute)
	for quarter := 1; quarter <= 4; {
		n := p.appended(t) - p.before
		if n*4 >= quarter*batches {
			p.marks = append(p.marks, p.mark(t, n))
			quarter++
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d batches are mirrored", n, batches)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// cost is the CPU time of a process for a batch of the n-th quarter.
func (p *progress) cost(name string, n int) time.Duration {
	from, to := p.marks[n], p.marks[n+1]
	return (to.cpu[name] - from.cpu[name]) / time.Duration(max(to.batches-from.batches, 1))
}

// String is the rates, for people.
func (p *progress) String() string {
	rate := func(from, to mark) float64 { return float64(to.batches-from.batches) / to.at.Sub(from.at).Seconds() }
	s := fmt.Sprintf("%.0f/s, the first quarter at %.0f/s and the last at %.0f/s; CPU time each, first and last quarter:",
		rate(p.marks[0], p.marks[4]), rate(p.marks[0], p.marks[1]), rate(p.marks[3], p.marks[4]))
	for _, name := range slices.Sorted(maps.Keys(p.pids)) {
		s += fmt.Sprintf(" %s %v and %v", name, p.cost(name, 0), p.cost(name, 3))
	}
	return s
}

// assertLinear fails the test if the last quarter cost twice as much CPU time as the first. Time on
// the clock would tell more about what else the machine does.
func (p *progress) assertLinear(t testing.TB) {
	t.Helper()
	for name := range p.pids {
		if first, last := p.cost(name, 0), p.cost(name, 3); last > 2*first {
			t.Errorf("%s: a batch of the first quarter cost %v of CPU time, one of the last %v: %s", name, first, last, p)
		}
	}
}

// metric is the value of one line of /metrics, 0 if it is not there (yet).
func (k *Klink) metric(t testing.TB, name string) float64 {
	t.Helper()
	for line := range strings.Lines(k.Metrics(t)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatalf("metric %q: %v", line, err)
			}
			return v
		}
	}
	return 0
}
