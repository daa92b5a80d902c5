package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"klink/bench"
)

// TestWorkloadNames: a name is read as it is written, and what cannot be is refused with the
// reason.
func TestWorkloadNames(t *testing.T) {
	for _, name := range append(fullWorkloads, quickWorkloads...) {
		w, err := parseWorkload(name)
		require.NoError(t, err)
		require.Equal(t, name, w.String())
	}
	w, err := parseWorkload("produce 64KiB x16 at 500/s tls")
	require.NoError(t, err)
	require.Equal(t, workload{kind: "produce", size: 64 << 10, connections: 16, rate: 500, tls: true}, w)
	for name, problem := range map[string]string{
		"produce":                      "want \"produce|fetch",
		"produce 64KiB":                "want",
		"produce 2MiB x1":              "no batch above 1 MiB",
		"fetch 0KiB x1":                "must be from 1",
		"fetch 1KiB x0":                "must be from 1",
		"fetch 1KiB x99999999":         "must be from 1",
		"mirror fetch 1KiB x1 tls":     "without TLS only",
		"produce 64KiB x16 tls at 5/s": "want",
	} {
		_, err := parseWorkload(name)
		require.ErrorContains(t, err, problem, name)
	}
}

// TestRefusesWhatItDoesNotKnow: before anything is started.
func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for problem, o := range map[string]bench.Options{
		`workload "x"`:    {Rounds: 1, Workloads: []string{"x"}},
		`subject "nginx"`: {Rounds: 1, Subjects: []string{"nginx"}},
		"0 rounds":        {},
	} {
		_, err := Run(t.Context(), &o)
		require.ErrorContains(t, err, problem)
	}
}

func TestAddedLatency(t *testing.T) {
	w, err := parseWorkload("fetch 1KiB x1")
	require.NoError(t, err)
	b := &benchmark{series: &bench.Series{Runs: []bench.Run{
		{Workload: w.String(), Subject: Klink, Round: 1, Values: map[bench.Metric]float64{bench.P50: 0.15}},
		{Workload: w.String(), Subject: Direct, Round: 1, Values: map[bench.Metric]float64{bench.P50: 0.1}},
		{Workload: w.String(), Subject: HAProxy, Round: 1, Problem: "died"},
		{Workload: w.String(), Subject: Klink, Round: 2, Values: map[bench.Metric]float64{bench.P50: 0.3}},
	}}}
	b.addedLatency(w, 1)
	require.InDelta(t, 50, b.series.Runs[0].Values[bench.AddedP50], 0.001)
	require.NotContains(t, b.series.Runs[1].Values, bench.AddedP50)
	require.NotContains(t, b.series.Runs[3].Values, bench.AddedP50)
}
