package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTuneGC: the environment wins.
func TestTuneGC(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	percent := func() int {
		p := debug.SetGCPercent(100)
		return p
	}
	for _, c := range []struct {
		gogc, limit string
		want        int
	}{{"", "", gcPercent}, {"50", "", 100}, {"", "900MiB", 100}} {
		t.Setenv("GOGC", c.gogc)
		t.Setenv("GOMEMLIMIT", c.limit)
		tuneGC()
		require.Equal(t, c.want, percent(), c)
	}
}
