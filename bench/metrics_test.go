package bench

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpread(t *testing.T) {
	require.Equal(t, Spread{2, 1, 3, 3}, SpreadOf([]float64{3, 1, 2}))
	require.Equal(t, Spread{2.5, 1, 4, 4}, SpreadOf([]float64{4, 1, 3, 2}))
	require.True(t, math.IsNaN(SpreadOf(nil).Median))
}

// TestRatiosAreWithinARound: a machine that is slower in one round changes no ratio; runs with a
// problem do not count.
func TestRatiosAreWithinARound(t *testing.T) {
	s := Series{Runs: []Run{
		{Workload: "w", Subject: "klink", Round: 1, Values: map[Metric]float64{MBPerSecond: 300}},
		{Workload: "w", Subject: "peer", Round: 1, Values: map[Metric]float64{MBPerSecond: 100}},
		{Workload: "w", Subject: "klink", Round: 2, Values: map[Metric]float64{MBPerSecond: 30}},
		{Workload: "w", Subject: "peer", Round: 2, Values: map[Metric]float64{MBPerSecond: 10}},
		{Workload: "w", Subject: "klink", Round: 3, Values: map[Metric]float64{MBPerSecond: 1}, Problem: "read what was not written"},
		{Workload: "w", Subject: "peer", Round: 3, Values: map[Metric]float64{MBPerSecond: 100}},
		{Workload: "other", Subject: "peer", Round: 1, Values: map[Metric]float64{MBPerSecond: 1}},
	}}
	require.Equal(t, []float64{3, 3}, s.Ratios("w", "klink", "peer", MBPerSecond))
	require.Equal(t, []string{"w", "other"}, s.Workloads())
	require.Equal(t, []string{"klink", "peer"}, s.Subjects("w"))
}

// TestReportFile: a report that was written can be read again, a series replaces the one of the
// same benchmark, and another format is refused.
func TestReportFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	r, err := ReadReport(path)
	require.NoError(t, err)
	r.Put(Series{Bench: "proxy"})
	r.Put(Series{Bench: "mirror", Command: "old"})
	r.Put(Series{Bench: "mirror", Command: "new", Runs: []Run{{Workload: "w", Subject: "klink", Round: 1, Values: map[Metric]float64{P50: 1.5}}}})
	require.NoError(t, r.Write(path))
	again, err := ReadReport(path)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.Len(t, again.Series, 2)
	require.Equal(t, "new", again.Of("mirror").Command)
	require.Nil(t, again.Of("none"))
	r.Version++
	require.NoError(t, r.Write(path))
	_, err = ReadReport(path)
	require.ErrorContains(t, err, "has format version 2")
}
