package mirror

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
)

// TestBounds is the part of `make bench-check` on real Kafka: how klink does against a loop that appends what it fetches without
// looking at it, and against a byte relay. Each ratio in bounds.json, named "workload: metric, subject / subject", is at most what
// stands there, as the median of the rounds. It measures, so it runs only with KLINK_BENCH_CHECK=1.
func TestBounds(t *testing.T) {
	if os.Getenv("KLINK_BENCH_CHECK") != "1" {
		t.Skip("a measurement: make bench-check")
	}
	kafkatest.Require(t)
	text, err := os.ReadFile("bounds.json")
	require.NoError(t, err)
	var bounds map[string]float64
	require.NoError(t, json.Unmarshal(text, &bounds))
	binary := filepath.Join(t.TempDir(), "klink")
	out, err := exec.Command("go", "build", "-o", binary, "klink/cmd/klink").CombinedOutput()
	require.NoError(t, err, string(out))
	s, err := Run(t.Context(), &Options{
		Options: bench.Options{Rounds: 3, Workloads: []string{"large", "small", "one"}, Subjects: []string{Klink, Raw, Relay}, Progress: t.Output()},
		Binary:  binary, Scale: 0.5, Steady: time.Second,
	})
	require.NoError(t, err)
	for name, bound := range bounds {
		workload, rest, _ := strings.Cut(name, ": ")
		metric, pair, _ := strings.Cut(rest, ", ")
		subject, to, ok := strings.Cut(pair, " / ")
		require.True(t, ok, name)
		r := bench.SpreadOf(s.Ratios(workload, subject, to, bench.Metric(metric)))
		require.Equal(t, 3, r.N, name)
		line := fmt.Sprintf("%s: %.2f (%.2f to %.2f), at most %.2f", name, r.Median, r.Low, r.High, bound)
		if t.Log(line); r.Median > bound {
			t.Error(line)
		}
	}
}
