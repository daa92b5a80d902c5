package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQuiet: memory is returned once after a wave of connections has passed. It is not returned
// while connections still come, or if there were few.
func TestQuiet(t *testing.T) {
	var q quiet
	now := time.Now()
	at := func(setups int64, after time.Duration) bool {
		now = now.Add(after)
		return q.due(setups, now)
	}
	require.False(t, at(quietSetups-1, 0))
	require.False(t, at(quietSetups-1, time.Hour), "too few")
	require.False(t, at(quietSetups, time.Second), "they still come")
	require.False(t, at(quietSetups, quietFor/2), "not quiet long enough")
	require.True(t, at(quietSetups, quietFor))
	require.False(t, at(quietSetups, time.Hour), "once")
	require.False(t, at(2*quietSetups, time.Second))
	require.True(t, at(2*quietSetups, quietFor))
	require.False(t, at(3*quietSetups, 0))
	require.False(t, at(3*quietSetups, quietFor), "too soon after the last")
	require.True(t, at(3*quietSetups, quietEvery))
}
