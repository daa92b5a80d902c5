package replicator

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCombinedAppends: many partitions share requests, and each gets its own result. Some
// partitions of a request are refused while the others are appended, and whole requests or their
// answers are lost. Every mirror partition still ends equal to its source, with few requests.
func TestCombinedAppends(t *testing.T) {
	const partitions, batches = 40, 30
	w, _, dst := embedded(t)
	w.grace = settleGrace
	w.topics("orders", partitions)
	for p := range int32(partitions) {
		for range batches {
			w.produce("orders", p, 1, 20)
		}
	}
	refused := []*kfake.FaultHandle{
		dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Partitions: []int32{3, 7}, Err: kerr.NotEnoughReplicas, Count: 9}),
		dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Partitions: []int32{4, 8}, Err: kerr.NotLeaderForPartition, Count: 9}),
	}
	requests, units, lost := 0, 0, 0
	dst.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) { // one at a time
		dst.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		if !ours(req) {
			return nil, nil, false
		}
		seen := map[int32]bool{}
		for _, rt := range req.Topics {
			for _, rp := range rt.Partitions {
				if seen[rp.Partition] {
					t.Errorf("partition %d is twice in a request", rp.Partition)
				}
				seen[rp.Partition] = true
			}
		}
		requests, units = requests+1, units+len(seen)
		if len(seen) < 5 || requests%3 != 0 || lost == 9 {
			return nil, nil, false
		}
		lost++
		switch lost % 3 {
		case 0: // the answer is lost, after the append
			go func(r kmsg.ProduceRequest) {
				r.TimeoutMillis++ // not ours
				_, _ = w.dst.cl.Broker(0).Request(t.Context(), &r)
			}(copyProduce(req))
			return nil, errors.New("broken by the test"), true
		case 1: // the request is lost
			return nil, errors.New("broken by the test"), true
		default: // it is answered for none of its partitions
			return req.ResponseKind(), nil, true
		}
	})
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	w.stop()
	if lost != 9 {
		t.Errorf("%d answers of shared requests were lost", lost)
	}
	for _, h := range refused {
		if h.Hits() != 9 {
			t.Errorf("%d of 9 appends were refused", h.Hits())
		}
	}
	if units < partitions*batches || requests*2 > units {
		t.Errorf("%d units took %d requests", units, requests)
	}
}

// ours reports whether a request is the replicator's.
func ours(req *kmsg.ProduceRequest) bool { return req.TimeoutMillis == produceTimeoutMs }
