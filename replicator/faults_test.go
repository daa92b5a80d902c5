package replicator

import (
	"errors"
	"fmt"
	"testing"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAppendResults: whatever a destination broker answers to an append, and whether or not it
// carries it out, the mirror ends equal to the source.
func TestAppendResults(t *testing.T) {
	for _, err := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
		kerr.KafkaStorageError, kerr.UnknownServerError, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID,
	} {
		t.Run(err.Message, func(t *testing.T) {
			w, _, dst := embedded(t)
			w.topics("orders", 3)
			for p := range int32(3) {
				for range 4 {
					w.produce("orders", p, 2, 20)
				}
			}
			h := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Partitions: []int32{1}, Err: err, Count: 3})
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
			if h.Hits() != 3 {
				t.Errorf("the fault was met %d times", h.Hits())
			}
			if got := w.control.mirror("orders"); got.State == model.MirrorFailed {
				t.Errorf("failed: %s", got.ErrorMessage)
			}
		})
	}
}

// TestConnectionLostAroundAppend: the connection breaks before, or after, the broker has appended.
func TestConnectionLostAroundAppend(t *testing.T) {
	for _, appends := range []bool{false, true} {
		t.Run(fmt.Sprintf("appends=%v", appends), func(t *testing.T) {
			w, _, dst := embedded(t)
			w.grace = settleGrace
			w.topics("orders", 2)
			for range 5 {
				w.produce("orders", 0, 2, 20)
				w.produce("orders", 1, 2, 20)
			}
			broken := 0
			dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				dst.KeepControl()
				if broken == 2 {
					return nil, nil, false
				}
				broken++
				if appends {
					// Appended over another connection; this one never gets an answer.
					go func(r kmsg.ProduceRequest) {
						_, _ = w.dst.cl.Broker(0).Request(t.Context(), &r)
					}(copyProduce(req.(*kmsg.ProduceRequest)))
				}
				return nil, errors.New("broken by the test"), true
			})
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
		})
	}
}

// copyProduce copies a request, which the cluster may reuse.
func copyProduce(r *kmsg.ProduceRequest) kmsg.ProduceRequest {
	c := *r
	c.Topics = append([]kmsg.ProduceRequestTopic(nil), r.Topics...)
	for i := range c.Topics {
		ps := append([]kmsg.ProduceRequestTopicPartition(nil), c.Topics[i].Partitions...)
		for k := range ps {
			ps[k].Records = append([]byte(nil), ps[k].Records...)
		}
		c.Topics[i].Partitions = ps
	}
	return c
}

// TestRefusedBatches: a batch that can never be appended fails the mirror with a named error. The
// batches before it are in the mirror.
func TestRefusedBatches(t *testing.T) {
	for _, c := range []struct {
		err  *kerr.Error
		want model.Error
	}{
		{kerr.MessageTooLarge, model.ErrRecordTooLarge},
		{kerr.RecordListTooLarge, model.ErrRecordTooLarge},
		{kerr.PolicyViolation, model.ErrPolicyViolation},
		{kerr.InvalidRecord, model.ErrUnsupportedFormat},
		{kerr.CorruptMessage, model.ErrUnsupportedFormat},
	} {
		t.Run(c.err.Message, func(t *testing.T) {
			w, _, dst := embedded(t)
			w.topics("orders", 1)
			w.produce("orders", 0, 2, 20)
			w.mirror("orders")
			w.run()
			w.awaitState("orders", model.MirrorActive)
			w.awaitCaughtUp("orders")
			dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: c.err, Count: -1})
			w.produce("orders", 0, 3, 20)
			m := w.awaitState("orders", model.MirrorFailed)
			if m.Error != c.want {
				t.Errorf("error %s (%s), want %s", m.Error, m.ErrorMessage, c.want)
			}
			wantIn(t, m.ErrorMessage, "orders-0", "offsets 2 to 4")
			if end := dst.PartitionInfo("orders", 0).HighWatermark; end != 2 {
				t.Errorf("the mirror ends at %d, want 2", end)
			}
		})
	}
}

// TestSourceErrors: fetching recovers from errors of the source.
func TestSourceErrors(t *testing.T) {
	for _, err := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch, kerr.FencedLeaderEpoch, kerr.KafkaStorageError,
		kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.OffsetNotAvailable, kerr.UnknownServerError, kerr.OffsetOutOfRange,
	} {
		t.Run(err.Message, func(t *testing.T) {
			w, src, _ := embedded(t)
			w.topics("orders", 2)
			w.produce("orders", 0, 2, 20)
			w.produce("orders", 1, 2, 20)
			h := src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Partitions: []int32{1}, Err: err, Count: 2})
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.awaitState("orders", model.MirrorActive)
			if h.Hits() != 2 {
				t.Errorf("the fault was met %d times", h.Hits())
			}
			w.same("orders")
		})
	}
}

// TestDestinationRefusesForAWhile: an ACL that is missing at the destination does not end the
// mirror. It goes on once the ACL is there.
func TestDestinationRefusesForAWhile(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.ListOffsets, kmsg.Metadata} {
		t.Run(key.Name(), func(t *testing.T) {
			w, _, dst := embedded(t)
			w.topics("orders", 2)
			w.produce("orders", 0, 2, 20)
			w.produce("orders", 1, 2, 20)
			w.mirror("orders")
			denied := dst.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
			w.run()
			m := w.awaitState("orders", model.MirrorSourceUnavailable)
			if m.Error != model.ErrAuthorization {
				t.Errorf("error %s", m.Error)
			}
			wantIn(t, m.ErrorMessage, "destination", "WRITE", `"orders"`)
			denied.Remove()
			w.awaitState("orders", model.MirrorActive)
			w.awaitCaughtUp("orders")
			w.same("orders")
		})
	}
}

// TestCorruptionOnTheWay: a batch that is refused once for its checksum is fetched again.
func TestCorruptionOnTheWay(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 2, 20)
	h := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: kerr.CorruptMessage, Count: corruptionsToBelieve - 1})
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.same("orders")
	if h.Hits() != corruptionsToBelieve-1 {
		t.Errorf("the fault was met %d times", h.Hits())
	}
}
