package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
)

// loadSummary is what is looked at of `bench load -o json`.
type loadSummary struct {
	Verified                     bool
	Acked, Read, Failed, Unsent  int64
	Created, Mirror              bool
	EndToEnd                     struct{ Count int64 } `json:"end_to_end"`
	Verification                 struct{ Damage map[string]int64 }
	SentPerSecond, ReadPerSecond float64
}

// TestLoad: `klink bench load` through klink, and at the source with the mirror read through klink,
// on real brokers: what is read is verified there too, idempotent producers and compressed batches
// included.
func TestLoad(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t)
	k := StartKlink(t, destination)
	createLink(t, k, "load", source)
	bench := func(args ...string) loadSummary {
		t.Helper()
		stdout, stderr, code := RunCommand(t, t.TempDir(), "", append([]string{"bench", "load", "-o", "json"}, args...)...)
		require.Equal(t, 0, code, stdout+stderr)
		var s loadSummary
		require.NoError(t, json.Unmarshal([]byte(stdout), &s))
		require.True(t, s.Verified, stdout)
		require.Empty(t, s.Verification.Damage)
		require.Positive(t, s.Read)
		require.Equal(t, s.Acked, s.Read)
		require.Zero(t, s.Failed)
		require.Positive(t, s.EndToEnd.Count)
		return s
	}
	s := bench("--topic", "load-direct", "--partitions", "4", "--bootstrap-server", k.Bootstrap(), "--rate", "4000", "--duration", "2s", "--producers", "2", "--consumers", "2")
	require.True(t, s.Created)
	require.False(t, s.Mirror)
	require.InDelta(t, 8000, s.Read+s.Unsent, 100)

	file := filepath.Join(t.TempDir(), "load.csv")
	s = bench("--topic", "load-mirror", "--partitions", "3", "--bootstrap-server", source.Bootstrap(), "--read-from", k.Bootstrap(), "--link", "load",
		"--rate", "4000", "--duration", "3s", "--compression", "lz4", "--payload", "json", "--csv", file)
	require.True(t, s.Mirror)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.GreaterOrEqual(t, strings.Count(string(text), "\n"), 5, string(text))

	// Again, where records are there already, and without a fixed rate.
	s = bench("--topic", "load-mirror", "--bootstrap-server", source.Bootstrap(), "--read-from", k.Bootstrap(), "--rate", "0", "--duration", "2s", "--batch-size", "128KiB", "--compression", "zstd")
	require.False(t, s.Created)
}
