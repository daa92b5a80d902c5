package mirror

import (
	"testing"
	"time"

	"klink/bench"

	"github.com/stretchr/testify/require"
)

// TestValues: figures are of the window alone, from the last look without a record to the first with all.
func TestValues(t *testing.T) {
	now := time.Now()
	first := mark{at: now, usage: bench.Usage{CPU: 10 * time.Second, Peak: 300e6}}
	last := mark{at: now.Add(4 * time.Second), done: 1, usage: bench.Usage{CPU: 13 * time.Second, Peak: 500e6}}
	v := values(first, last, &content{records: 2_000_000, bytes: 2e9})
	require.Equal(t, map[bench.Metric]float64{
		bench.Seconds: 4, bench.MBPerSecond: 500, bench.RecordsPerSecond: 500_000,
		bench.CPUPerGB: 1.5, bench.CPUPerMRecords: 1.5, bench.PeakRSS: 500,
	}, v)
}

// TestLags: what is due outside the window does not count, a late record counts from when it was due, and samples are by that time.
func TestLags(t *testing.T) {
	from := time.Now()
	l := newLags(from, time.Second)
	require.Len(t, l.samples, 4)
	l.add(from.Add(-time.Millisecond), from.Add(time.Minute))
	l.add(from.Add(time.Second), from.Add(time.Minute))
	for i := range 100 {
		due := from.Add(time.Duration(i) * 10 * time.Millisecond)
		lag := 2 * time.Millisecond
		if i == 99 {
			lag = 800 * time.Millisecond
		}
		l.add(due, due.Add(lag))
	}
	require.EqualValues(t, 102, l.seen)
	require.EqualValues(t, 100, l.all.TotalCount())
	v := map[bench.Metric]float64{}
	l.values(v)
	require.InDelta(t, 2, v[bench.P50], 0.01)
	require.InDelta(t, 800, v[bench.Max], 1)
	over := l.overTime()
	require.Len(t, over[bench.P99], 4)
	require.InDelta(t, 2, over[bench.P99][0], 0.1)
	require.InDelta(t, 800, over[bench.P99][3], 10)
}
