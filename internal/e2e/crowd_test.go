package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRequestsThatHoldUpBrokers: a request with one topic name many times takes a broker many times
// as long as one with as many different names, and the other clients of its network thread wait.
// klink does not forward it. What is honest passes.
func TestRequestsThatHoldUpBrokers(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Start(t)
	k := StartKlink(t, destination)
	const names = 1000
	epochs := func(same bool) *kmsg.OffsetForLeaderEpochRequest {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID = -1
		for i := range names {
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			if rt.Topic = "orders"; !same {
				rt.Topic = fmt.Sprintf("orders-%d", i)
			}
			req.Topics = append(req.Topics, rt)
		}
		return req
	}
	try := func(addr string, same bool) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		h, err := dialHostile(ctx, addr)
		if err != nil {
			return 0, err
		}
		defer h.Close()
		begin := time.Now()
		_, err = askHostile[*kmsg.OffsetForLeaderEpochResponse](h, epochs(same), 4)
		return time.Since(begin), err
	}
	fastest := map[bool]time.Duration{true: time.Hour, false: time.Hour}
	for range 3 {
		for _, same := range []bool{false, true} {
			took, err := try(destination.Bootstrap(), same)
			if err != nil {
				t.Fatalf("the broker does not answer (one name: %v): %v", same, err)
			}
			fastest[same] = min(fastest[same], took)
		}
	}
	t.Logf("%d topics took the broker %v, one topic as many times %v", names, fastest[false], fastest[true])
	if fastest[true] < 2*fastest[false] {
		t.Errorf("the attack is none any more: %v for the same name, %v for others", fastest[true], fastest[false])
	}
	if _, err := try(k.BrokerAddr(t, 0), false); err != nil {
		t.Errorf("an honest request with %d topics: %v", names, err)
	}
	if _, err := try(k.BrokerAddr(t, 0), true); !errors.Is(err, io.EOF) {
		t.Errorf("a request with one topic %d times: %v", names, err)
	}
	k.MustRun(t)
}
