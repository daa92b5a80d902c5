package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBenchReport: the command renders a page, changes nothing when run again, and says what
// prevents it from running.
func TestBenchReport(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	frame, err := os.ReadFile("../../bench/page/testdata/frame.md")
	require.NoError(t, err)
	page := filepath.Join(w.dir, "benchmarks.md")
	require.NoError(t, os.WriteFile(page, frame, 0o644))
	args := []string{"bench", "report", "--in", "../../bench/page/testdata/report.json", "--out", w.dir}
	out := w.must("", args...)
	require.True(t, contains(out, "Changed "+page+".", "bench/mirror-throughput.svg."), out)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "![mirror: throughput in MB/s](bench/mirror-throughput.svg)")
	require.Equal(t, "Nothing has changed.\n", w.must("", args...))

	require.NoError(t, os.WriteFile(page, []byte("nothing here"), 0o644))
	require.Contains(t, w.refused("", args...), `the page has no place for the benchmark "instances"`)
	require.Contains(t, w.refused("", "bench", "report", "--in", page, "--out", w.dir), "is not a report of benchmarks")
}
