package mirror

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"klink/bench"

	"github.com/stretchr/testify/require"
)

func chosen(t *testing.T, o Options) (workloads, subjects []string) {
	t.Helper()
	b := &run{o: &o}
	require.NoError(t, b.choose())
	for _, w := range b.workloads {
		workloads = append(workloads, w.name)
	}
	return workloads, b.subjects
}

// TestChoice: quick mode has fewer workloads, names win over it, and names that do not exist are
// refused before anything starts.
func TestChoice(t *testing.T) {
	ws, ss := chosen(t, Options{})
	require.Equal(t, Workloads(), ws)
	require.Equal(t, Subjects(), ss)
	ws, _ = chosen(t, Options{Options: bench.Options{Quick: true}})
	require.Equal(t, []string{"large", "small"}, ws)
	ws, ss = chosen(t, Options{Options: bench.Options{Quick: true, Workloads: []string{"far"}, Subjects: []string{Relay, Klink}}})
	require.Equal(t, []string{"far"}, ws)
	require.Equal(t, []string{Klink, Relay}, ss)
	_, err := Run(t.Context(), &Options{Options: bench.Options{Workloads: []string{"huge"}}})
	require.ErrorContains(t, err, `unknown workload "huge"; known: large, small, `)
	_, err = Run(t.Context(), &Options{Options: bench.Options{Subjects: []string{"rsync"}}})
	require.ErrorContains(t, err, `unknown subject "rsync"; known: klink, `)
}

// TestTurns: the major workloads have all their rounds first, and each workload's rounds are
// spread.
func TestTurns(t *testing.T) {
	var order []string
	for _, turn := range turns([]*workload{{name: "a", major: true}, {name: "x"}, {name: "b", major: true}, {name: "y"}}, 2) {
		order = append(order, fmt.Sprint(turn.w.name, turn.round))
	}
	require.Equal(t, "a1 b1 a2 b2 x1 y1 x2 y2", strings.Join(order, " "))
}

// TestRefusesBeforeItStarts: a disk that is too small, and a file that is no report, are reported
// at once.
func TestRefusesBeforeItStarts(t *testing.T) {
	_, err := Run(t.Context(), &Options{Scale: 1e6})
	require.ErrorContains(t, err, "free some space")
	out := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, os.WriteFile(out, []byte("not JSON"), 0o600))
	_, err = Run(t.Context(), &Options{Options: bench.Options{Out: out}, Scale: 0.001})
	require.ErrorContains(t, err, "is not a report of benchmarks")
}

// TestFloorsRunWhereTheyCan: a raw loop cannot copy transactions or thinned batches.
func TestFloorsRunWhereTheyCan(t *testing.T) {
	for _, w := range workloads {
		for _, s := range []string{Klink, MirrorMaker, Copy} {
			require.True(t, runs(s, &w))
		}
		if w.transactions || w.compacted > 0 || w.far > 0 {
			require.False(t, runs(Raw, &w), w.name)
		}
		require.Equal(t, w.unjoined, runs(Unjoined, &w))
		if w.destination().away > 0 {
			require.False(t, runs(Relay, &w), w.name)
		}
		if w.most > 0 {
			require.False(t, w.transactions || w.compacted > 0, "%s: what is not all there is compared by offsets", w.name)
		}
	}
	require.ErrorContains(t, (&Floor{}).Run(t.Context(), "nothing"), `unknown floor "nothing"`)
}

// TestTables: medians with ranges, ratios within rounds, problems left out, the absent named.
func TestTables(t *testing.T) {
	s := &bench.Series{Command: "klink bench mirror", Absent: []bench.Absent{{Subject: MirrorMaker, Why: "no Java"}}}
	for round, mb := range []float64{300, 200, 400} {
		v := func(x float64) map[bench.Metric]float64 {
			return map[bench.Metric]float64{bench.MBPerSecond: mb * x, bench.CPUPerGB: 2 / x}
		}
		s.Runs = append(s.Runs,
			bench.Run{Workload: "large", Subject: Klink, Round: round + 1, Values: v(1)},
			bench.Run{Workload: "large", Subject: Copy, Round: round + 1, Values: v(0.5)},
			bench.Run{Workload: "large-steady", Subject: Klink, Round: round + 1, Values: map[bench.Metric]float64{bench.P50: 3}})
	}
	s.Runs = append(s.Runs, bench.Run{Workload: "large", Subject: Raw, Round: 1, Values: map[bench.Metric]float64{bench.MBPerSecond: 9999}, Problem: "wrong"})
	var out strings.Builder
	newPrinter(&out).tables(s)
	text := out.String()
	require.Regexp(t, `klink +\| +3 \| 300 \(200-400\) `, text)
	require.Regexp(t, `copy +\| +3 \| 150 \(100-200\) .*2\.00 x MB/s, 0\.50 x CPU s/GB`, text)
	require.Regexp(t, `raw +\| +0 \| - `, text)
	require.Contains(t, text, "absent: mirrormaker2: no Java")
	require.Contains(t, text, "steady, 15000 records/s: 1,000 B random records")
	require.NotContains(t, text, "9999")
	require.False(t, newPrinter(io.Discard).terminal)
}
