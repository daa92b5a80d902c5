package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProxyWorkloadNames: a name is read as it is written, and what cannot be is refused with the
// reason.
func TestProxyWorkloadNames(t *testing.T) {
	for _, name := range append(fullProxyWorkloads, quickProxyWorkloads...) {
		w, err := parseProxyWorkload(name)
		require.NoError(t, err)
		require.Equal(t, name, w.String())
	}
	w, err := parseProxyWorkload("produce 64KiB x16 at 500/s tls")
	require.NoError(t, err)
	require.Equal(t, proxyWorkload{kind: "produce", size: 64 << 10, connections: 16, rate: 500, tls: true}, w)
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
		_, err := parseProxyWorkload(name)
		require.ErrorContains(t, err, problem, name)
	}
}

// TestProxyRefusesWhatItDoesNotKnow: before anything is started.
func TestProxyRefusesWhatItDoesNotKnow(t *testing.T) {
	for problem, o := range map[string]Options{
		`workload "x"`:    {Rounds: 1, Workloads: []string{"x"}},
		`subject "nginx"`: {Rounds: 1, Subjects: []string{"nginx"}},
		"0 rounds":        {},
	} {
		_, err := Proxy(t.Context(), &o)
		require.ErrorContains(t, err, problem)
	}
}

// TestTable: medians with the range, ratios within rounds, and a dash for what was not measured.
func TestTable(t *testing.T) {
	s := Series{Runs: []Run{
		{Workload: "w", Subject: Direct, Round: 1, Values: map[Metric]float64{MBPerSecond: 100}},
		{Workload: "w", Subject: Klink, Round: 1, Values: map[Metric]float64{MBPerSecond: 50, CPUPerGB: 0.1234}},
		{Workload: "w", Subject: Direct, Round: 2, Values: map[Metric]float64{MBPerSecond: 10}},
		{Workload: "w", Subject: Klink, Round: 2, Values: map[Metric]float64{MBPerSecond: 5, CPUPerGB: 0.1}},
		{Workload: "w", Subject: RelayOf, Round: 1, Problem: "died"},
	}}
	var out bytes.Buffer
	s.Table(&out, "w", Direct, HAProxy, MBPerSecond)
	lines := strings.Split(out.String(), "\n")
	row := func(name string) (cells []string) {
		for _, l := range lines {
			if c := strings.Split(l, "|"); strings.TrimSpace(c[0]) == name {
				for _, v := range c {
					cells = append(cells, strings.TrimSpace(v))
				}
			}
		}
		return cells
	}
	require.Equal(t, []string{"w", "MB/s", "/ direct", "/ haproxy", "CPU s/GB", "rounds"}, row("w"))
	require.Equal(t, []string{"klink", "27.5 (5.00-50.0)", "0.50", "-", "0.112 (0.100-0.123)", "2"}, row("klink"))
	require.Equal(t, []string{"relay", "-", "-", "-", "-", "0"}, row("relay"))
	require.Equal(t, "1234", figure(1234))
	require.Equal(t, "0.0012", figure(0.00123))
	require.Equal(t, "-3.21", figure(-3.21))
}

func TestAddedLatency(t *testing.T) {
	w, err := parseProxyWorkload("fetch 1KiB x1")
	require.NoError(t, err)
	b := &proxyBench{serie: &Series{Runs: []Run{
		{Workload: w.String(), Subject: Klink, Round: 1, Values: map[Metric]float64{P50: 0.15}},
		{Workload: w.String(), Subject: Direct, Round: 1, Values: map[Metric]float64{P50: 0.1}},
		{Workload: w.String(), Subject: HAProxy, Round: 1, Problem: "died"},
		{Workload: w.String(), Subject: Klink, Round: 2, Values: map[Metric]float64{P50: 0.3}},
	}}}
	b.addedLatency(w, 1)
	require.InDelta(t, 50, b.serie.Runs[0].Values[AddedP50], 0.001)
	require.NotContains(t, b.serie.Runs[1].Values, AddedP50)
	require.NotContains(t, b.serie.Runs[3].Values, AddedP50)
}
