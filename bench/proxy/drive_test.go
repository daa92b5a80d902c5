package proxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pretender answers in a moment, except for one request, on which it stalls.
type pretender struct {
	n, stallAt int
	stall      time.Duration
	fail       error
}

func (p *pretender) Close() {}

func (p *pretender) Once() (int64, error) {
	p.n++
	if p.n == p.stallAt {
		time.Sleep(p.stall)
		return 10, p.fail
	}
	return 10, nil
}

// TestFixedRateSeesAStall: a server that stands still for a fifth of the time shows in p99, and in
// a tenth of all latencies, although it delays a single request only. The closed loop does not see
// that, which is why there is a fixed rate.
func TestFixedRateSeesAStall(t *testing.T) {
	const stall = 200 * time.Millisecond
	p := &pretender{stallAt: 100, stall: stall}
	d, err := fixedRate(t.Context(), []asker{p}, 1000, time.Second)
	require.NoError(t, err)
	require.EqualValues(t, 1000, d.requests)
	require.EqualValues(t, 10_000, d.bytes)
	require.EqualValues(t, 1000, d.latency.TotalCount(), "every request is counted once")
	require.Greater(t, d.quantile(99), 150.0)
	require.Greater(t, d.quantile(92), 50.0, "what was to be asked during the stall was late, too")
	require.Less(t, d.quantile(50), 50.0)

	p = &pretender{stallAt: 100, stall: stall}
	closed, err := closedLoop(t.Context(), []asker{p}, 500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, closed.requests, closed.latency.TotalCount())
	require.Less(t, closed.quantile(99), 50.0)
	require.Greater(t, closed.quantile(100), 190.0)
}

// TestFixedRateThatIsNotMet: requests that could not be made in time count as late, and the run
// ends.
func TestFixedRateThatIsNotMet(t *testing.T) {
	p := &pretender{stallAt: 1, stall: 500 * time.Millisecond}
	d, err := fixedRate(t.Context(), []asker{p}, 100, 200*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, 20, d.latency.TotalCount())
	require.EqualValues(t, 1, d.requests)
	require.Greater(t, d.quantile(50), 300.0)
}

func TestDriveStopsAtTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	began := time.Now()
	_, err := closedLoop(t.Context(), []asker{&pretender{}, &pretender{stallAt: 3, fail: broken}}, time.Minute)
	require.ErrorIs(t, err, broken)
	require.Less(t, time.Since(began), 30*time.Second)

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = closedLoop(ctx, []asker{&pretender{}}, time.Minute)
	require.ErrorIs(t, err, context.Canceled)
	_, err = fixedRate(t.Context(), nil, 1, time.Second)
	require.ErrorContains(t, err, "at least one client")
	_, err = fixedRate(t.Context(), []asker{&pretender{}}, 0, time.Second)
	require.ErrorContains(t, err, "rate")
}

func TestQuantileUnits(t *testing.T) {
	d := &driven{latency: newLatency()}
	record(d.latency, 1500*time.Microsecond)
	require.InDelta(t, 1.5, d.quantile(50), 0.002)
	record(d.latency, 0)
	record(d.latency, time.Hour) // as far as the histogram goes
	require.InDelta(t, 60_000, d.quantile(100), 100)
	require.EqualValues(t, 3, d.latency.TotalCount())
}
