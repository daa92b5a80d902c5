package mirror

import (
	"testing"
	"time"

	"klink/bench"

	"github.com/stretchr/testify/require"
)

// TestValues: figures are of the window alone, from the last look without a record to the first
// with all.
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

// TestLags: records due outside the window do not count, a late record counts from when it was due,
// and samples go by that time too.
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

// TestThirds: the first and the last third of what counts, from the acknowledgement on.
func TestThirds(t *testing.T) {
	began := time.Now()
	var acked, seen []time.Time
	for i := range 310 {
		at := began.Add(time.Duration(i) * time.Millisecond)
		acked = append(acked, at)
		lag := 5 * time.Millisecond
		switch {
		case i < 10:
			lag = time.Minute // before it counts
		case i >= 210:
			lag = time.Duration(i-209) * 10 * time.Millisecond // it falls behind
		case i == 50:
			lag = -time.Second // it is read before the source answers
		}
		seen = append(seen, at.Add(lag))
	}
	v := map[bench.Metric]float64{}
	thirds(v, acked, seen, 10)
	require.InDelta(t, 5, v[bench.FirstP50], 0.001)
	require.InDelta(t, 5, v[bench.FirstP99], 0.001)
	require.InDelta(t, 510, v[bench.LastP50], 0.001)
	require.InDelta(t, 1000, v[bench.LastP99], 0.001)
}
