package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/bench"

	"github.com/stretchr/testify/require"
)

// planned is a plan of these options.
func planned(t *testing.T, o Options) *plan {
	t.Helper()
	b := newRun(&o)
	require.NoError(t, b.choose())
	return newPlan(b)
}

// TestLegs: all workloads of a destination are measured before the next one's, each leg has its
// share of the budget, and the last may use all of it.
func TestLegs(t *testing.T) {
	p := planned(t, Options{Options: bench.Options{Rounds: 2, Workloads: []string{"one", "far-destination", "rf3-16k", "rf3-200"}}, Budget: 10 * time.Minute})
	var order []string
	for _, l := range p.legs {
		for _, turn := range l.turns {
			order = append(order, fmt.Sprint(turn.w.name, " ", turn.round))
		}
	}
	require.Equal(t, "rf3-16k 1, rf3-16k 2, rf3-200 1, rf3-200 2, far-destination 1, far-destination 2, one 1, one 2", strings.Join(order, ", "))
	require.InDelta(t, 4.2, p.legs[0].until.Minutes(), 0.1)
	require.InDelta(t, 5.2, p.legs[1].until.Minutes(), 0.1)
	require.InDelta(t, 10, p.legs[2].until.Minutes(), 0.01)

	only := planned(t, Options{Options: bench.Options{Workloads: []string{"far-destination"}}, Budget: 10 * time.Minute})
	require.InDelta(t, 10, only.legs[0].until.Minutes(), 0.01, "a leg that is alone has all of it")
}

// TestFits: turns that would not end in time are left out, and measured runs set how long a run is
// expected to take.
func TestFits(t *testing.T) {
	p := planned(t, Options{Options: bench.Options{Rounds: 3, Workloads: []string{"rf3-lag"}, Subjects: []string{Klink}}, Budget: time.Minute})
	l := &p.legs[0]
	turn := l.turns[1]
	require.True(t, p.fits(l, turn, p.began.Add(40*time.Second)))
	require.False(t, p.fits(l, turn, p.began.Add(50*time.Second)))
	p.took[[2]string{"rf3-lag", Klink}] = 5 * time.Second
	require.True(t, p.fits(l, turn, p.began.Add(50*time.Second)))
	require.Equal(t, 10*time.Second, p.left(0, 1, p.began.Add(10*time.Second)))
	require.Equal(t, 5*time.Second, p.left(0, 1, p.began.Add(52*time.Second)), "of two turns one fits")
	require.Zero(t, p.left(0, 1, p.began.Add(59*time.Second)))
	require.True(t, p.begins(l, p.began.Add(20*time.Second)))
	require.False(t, p.begins(l, p.began.Add(40*time.Second)), "three brokers have to start before")
	p.budget = 0
	require.True(t, p.fits(l, turn, p.began.Add(time.Hour)))
}

// TestPlanText: a run says what it is going to do, and how long that takes.
func TestPlanText(t *testing.T) {
	p := planned(t, Options{Options: bench.Options{Rounds: 3, Workloads: []string{"rf3-lag", "one"}, Subjects: []string{Klink, Copy}}, Budget: 15 * time.Minute})
	require.Regexp(t, `^12 runs: 2 workloads, 3 rounds; this takes about \d+ min, and no run begins after 15 min \(--budget\)$`, p.text(3))
	require.Equal(t, "89 s", about(89*time.Second))
	require.Equal(t, "2 min", about(100*time.Second))
}
