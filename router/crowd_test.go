package router

import (
	"errors"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A request that would keep a broker busy for long does not get to it.
func TestCrowdsAreNotForwarded(t *testing.T) {
	for _, names := range []int{20_000, 100, 20} {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID, req.Version = -1, 3
		for range names {
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = "ordinary"
			req.Topics = append(req.Topics, rt)
		}
		w := newHotWorld(t)
		forwarded := false
		w.proxy.broker = func([]byte) []byte { forwarded = true; return nil }
		out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
		if refused := errors.Is(out.closed, protocol.ErrMalformed); refused != (names > 20) || refused == forwarded {
			t.Errorf("%d times the same topic: forwarded %v, %v", names, forwarded, out.closed)
		}
	}
}
