package telemetry

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func newListener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}
