package mirror

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// TestRealKafka runs the benchmark with little data: klink and the floors mirror large and
// transactional records between real clusters, everything verifies, and the report has it.
func TestRealKafka(t *testing.T) {
	kafkatest.Require(t)
	binary := filepath.Join(t.TempDir(), "klink")
	out, err := exec.Command("go", "build", "-o", binary, "klink/cmd/klink").CombinedOutput()
	require.NoError(t, err, string(out))
	report := filepath.Join(t.TempDir(), "report.json")
	var shown strings.Builder
	_, err = Run(t.Context(), &Options{
		Options: bench.Options{
			Out: report, Rounds: 1, Workloads: []string{"large", "transactions"}, Subjects: []string{Klink, Copy, Relay},
			Version: "test", Command: "go test", Progress: &shown,
		},
		Binary: binary, Scale: 0.01, Steady: time.Second,
	})
	require.NoError(t, err, shown.String())
	r, err := bench.ReadReport(report)
	require.NoError(t, err)
	s := r.Of("mirror")
	require.NotNil(t, s)
	require.Equal(t, []string{"large", "large-steady", "transactions"}, s.Workloads())
	require.ElementsMatch(t, []string{Klink, Copy, Relay}, s.Subjects("large"))
	require.ElementsMatch(t, []string{Klink, Copy}, s.Subjects("transactions"))
	for _, run := range s.Runs {
		require.Empty(t, run.Problem)
		require.Positive(t, run.Values[bench.PeakRSS], run)
		if strings.HasSuffix(run.Workload, steadySuffix) {
			require.Positive(t, run.Values[bench.P50])
			require.GreaterOrEqual(t, run.Values[bench.P99], run.Values[bench.P50])
			require.NotEmpty(t, run.Samples[bench.P99])
		} else {
			require.Positive(t, run.Values[bench.MBPerSecond])
			require.Contains(t, run.Values, bench.CPUPerGB)
		}
	}
	require.Contains(t, shown.String(), "klink : it")
}

// TestThreeBrokers is the same with destinations of three brokers, near and far: partitions have
// several leaders, and single records are written.
func TestThreeBrokers(t *testing.T) {
	kafkatest.Require(t)
	binary := filepath.Join(t.TempDir(), "klink")
	out, err := exec.Command("go", "build", "-o", binary, "klink/cmd/klink").CombinedOutput()
	require.NoError(t, err, string(out))
	var shown strings.Builder
	s, err := Run(t.Context(), &Options{
		Options: bench.Options{
			Rounds: 1, Workloads: []string{"rf3-single-6", "far-destination"}, Subjects: []string{Klink, Unjoined, Raw},
			Version: "test", Command: "go test", Progress: &shown,
		},
		Binary: binary, Scale: 0.02, Steady: time.Second,
	})
	require.NoError(t, err, shown.String())
	require.Equal(t, []string{"rf3-single-6", "far-destination", "far-destination-steady"}, s.Workloads())
	require.Equal(t, []string{Klink, Unjoined, Raw}, s.Subjects("rf3-single-6"))
	for _, run := range s.Runs {
		require.Empty(t, run.Problem)
		if strings.HasSuffix(run.Workload, steadySuffix) {
			require.Positive(t, run.Values[bench.FirstP50])
			require.GreaterOrEqual(t, run.Values[bench.LastP99], run.Values[bench.LastP50])
		} else {
			require.Positive(t, run.Values[bench.RecordsPerSecond])
		}
	}
	require.Contains(t, shown.String(), "6 runs: 2 workloads, 1 rounds; this takes about ")
}
