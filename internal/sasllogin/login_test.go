package sasllogin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRenewal(t *testing.T) {
	now := time.Now()
	require.Zero(t, renewal(now, 0, time.Second, 0))
	require.Equal(t, 98*time.Minute, renewal(now, 100*time.Minute, time.Second, 0).Sub(now))
	require.Equal(t, 95*time.Minute, renewal(now, 100*time.Minute, time.Second, 1).Sub(now))
	require.Equal(t, 9*time.Second, renewal(now, 10*time.Second, 0, 1).Sub(now))
	require.Equal(t, 6*time.Second, renewal(now, 10*time.Second, 2*time.Second, 1).Sub(now))
	require.Equal(t, 500*time.Millisecond, renewal(now, time.Second, 0, 1).Sub(now))
}
