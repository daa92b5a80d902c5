package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTable: medians with the range, ratios within rounds, and a dash for what was not measured.
func TestTable(t *testing.T) {
	s := Series{Runs: []Run{
		{Workload: "w", Subject: "direct", Round: 1, Values: map[Metric]float64{MBPerSecond: 100}},
		{Workload: "w", Subject: "klink", Round: 1, Values: map[Metric]float64{MBPerSecond: 50, CPUPerGB: 0.1234}},
		{Workload: "w", Subject: "direct", Round: 2, Values: map[Metric]float64{MBPerSecond: 10}},
		{Workload: "w", Subject: "klink", Round: 2, Values: map[Metric]float64{MBPerSecond: 5, CPUPerGB: 0.1}},
		{Workload: "w", Subject: "relay", Round: 1, Problem: "died"},
	}}
	var out bytes.Buffer
	s.Table(&out, "w", "direct", "haproxy", MBPerSecond)
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
