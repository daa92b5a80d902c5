package mirror

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
)

// bound is a line of bounds.json: a figure, or the ratio of two subjects', is at most so much.
type bound struct {
	name, workload string
	metric         bench.Metric
	subject, to    string // to = "": the figure itself
	most           float64
}

func bounds(t *testing.T) (list []bound) {
	t.Helper()
	text, err := os.ReadFile("bounds.json")
	require.NoError(t, err)
	var lines map[string]float64
	require.NoError(t, json.Unmarshal(text, &lines))
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		b := bound{name: name, most: lines[name]}
		workload, rest, _ := strings.Cut(name, ": ")
		metric, pair, ok := strings.Cut(rest, ", ")
		require.True(t, ok, name)
		b.workload, b.metric = workload, bench.Metric(metric)
		b.subject, b.to, _ = strings.Cut(pair, " / ")
		list = append(list, b)
	}
	return list
}

// TestBoundsFile: every bound is of a workload and of subjects that there are, and can be met.
func TestBoundsFile(t *testing.T) {
	list := bounds(t)
	require.NotEmpty(t, list)
	for _, b := range list {
		_, ok := workloadNamed(strings.TrimSuffix(b.workload, steadySuffix))
		require.True(t, ok, b.name)
		require.Contains(t, slices.Concat(catchUpColumns, steadyColumns), b.metric, b.name)
		require.Contains(t, Subjects(), b.subject, b.name)
		if b.to != "" {
			require.Contains(t, Subjects(), b.to, b.name)
		}
		require.Positive(t, b.most, b.name)
	}
}

// TestBounds is the part of `make bench-check` on real Kafka: how klink does against a loop that
// appends what it fetches without looking at it, against a byte relay and, with three brokers,
// against a copy loop; and how far it is behind there. Each figure in bounds.json, named "workload:
// metric, subject", and each ratio, "workload: metric, subject / subject", is at most what stands
// there, as the median of the rounds. It measures, so it runs only with KLINK_BENCH_CHECK=1.
func TestBounds(t *testing.T) {
	if os.Getenv("KLINK_BENCH_CHECK") != "1" {
		t.Skip("a measurement: make bench-check")
	}
	kafkatest.Require(t)
	list := bounds(t)
	binary := filepath.Join(t.TempDir(), "klink")
	out, err := exec.Command("go", "build", "-o", binary, "klink/cmd/klink").CombinedOutput()
	require.NoError(t, err, string(out))
	run := func(o Options) *bench.Series {
		o.Rounds, o.Progress, o.Binary = 3, t.Output(), binary
		s, err := Run(t.Context(), &o)
		require.NoError(t, err)
		return s
	}
	one := run(Options{
		Options: bench.Options{Workloads: []string{"large", "small", "one"}, Subjects: []string{Klink, Raw, Relay}},
		Scale:   0.5, Steady: time.Second,
	})
	three := run(Options{Options: bench.Options{Workloads: []string{"rf3-single-1", "rf3-16k", "rf3-lag"}, Subjects: []string{Klink, Copy}}})
	for _, b := range list {
		s := one
		if strings.HasPrefix(b.workload, "rf3-") {
			s = three
		}
		values := s.Values(b.workload, b.subject, b.metric)
		if b.to != "" {
			values = s.Ratios(b.workload, b.subject, b.to, b.metric)
		}
		r := bench.SpreadOf(values)
		require.Equal(t, 3, r.N, b.name)
		line := fmt.Sprintf("%s: %.2f (%.2f to %.2f), at most %.2f", b.name, r.Median, r.Low, r.High, b.most)
		if t.Log(line); r.Median > b.most {
			t.Error(line)
		}
	}
}
