package replicator

import (
	"math"
	"sync/atomic"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAThrottlingSourceHoldsNoBudget: a source that throttles for weeks slows only its own link.
// During that time it reserves none of the memory that the fetches of all links share.
func TestAThrottlingSourceHoldsNoBudget(t *testing.T) {
	src, dst := kafkatest.Embedded(t, 1), kafkatest.Embedded(t, 1)
	w := newWorld(t, src.ListenAddrs(), dst.ListenAddrs())
	w.topics("orders", 1)
	w.produce("orders", 0, 1, 100)
	w.mirror("orders")
	var fetches atomic.Int64
	src.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		fetches.Add(1)
		resp := kreq.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = math.MaxInt32
		return resp, nil, true
	})
	w.run()
	free := 0 // looks in a row
	w.await("a fetch, and all of the budget to stay free", func() (bool, string) {
		b := w.r.budget
		if fetches.Load() == 0 || b.Left() != b.Total {
			free = 0
		}
		free++
		return free > 50, ""
	})
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches, of a source that throttles", n)
	}
	w.stop()
}
