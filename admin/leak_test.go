package admin

import (
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

// verifyNoneLeft fails if goroutines of klink or its clients are left that were not there before.
// It ignores those of the embedded brokers: if a client closes a connection during a long poll, the
// broker's goroutine ends only with the poll.
func verifyNoneLeft(t *testing.T, before goleak.Option) {
	t.Helper()
	const broker = "github.com/twmb/franz-go/pkg/kfake.(*clientConn)."
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction(broker+"read"), goleak.IgnoreAnyFunction(broker+"write"))
}

// TestCloseLeavesNothing: closing a service leaves no goroutine, whether the service was ready or
// not.
func TestCloseLeavesNothing(t *testing.T) {
	w := &world{t: t, source: kafkatest.Embedded(t, 1, kfake.ClusterID("s")), destination: kafkatest.Embedded(t, 1)}
	nowhere := kafkatest.NewFaults(t, w.destination.ListenAddrs()[0])
	nowhere.Cut()
	before := goleak.IgnoreCurrent()
	w.service = w.start()
	require.Zero(t, w.link("l").ErrorCode)
	require.NoError(t, w.service.Report(t.Context(), model.Event{Kind: model.EventLinkDown, Link: "l"}))
	w.service.Close()
	w.unready(nowhere.Addr()).Close()
	verifyNoneLeft(t, before)
}
