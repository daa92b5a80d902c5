package admin

import (
	"testing"

	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

// TestCloseLeavesNothing: a service that is closed leaves no goroutine, whether it has been ready or not.
func TestCloseLeavesNothing(t *testing.T) {
	w := &world{t: t, source: kafkatest.Embedded(t, 1, kfake.ClusterID("s")), destination: kafkatest.Embedded(t, 1)}
	nowhere := kafkatest.NewFaults(t, w.destination.ListenAddrs()[0])
	nowhere.Cut()
	before := goleak.IgnoreCurrent()
	w.service = w.start()
	require.Zero(t, w.link("l").ErrorCode)
	require.NoError(t, w.service.Report(t.Context(), Event{Kind: EventLinkDown, Link: "l"}))
	w.service.Close()
	w.unready(nowhere.Addr()).Close()
	goleak.VerifyNone(t, before)
}
