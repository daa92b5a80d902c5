package replicator

import (
	"sync/atomic"
	"testing"

	"klink/internal/batchtest"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// asked answers OffsetForLeaderEpoch at a source with what answer returns for each partition, or
// like the source if answer returns false.
func asked(src *kfake.Cluster, answer func(topic string, p kmsg.OffsetForLeaderEpochRequestTopicPartition) (kmsg.OffsetForLeaderEpochResponseTopicPartition, bool)) {
	src.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		own := false
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp, ok := answer(t.Topic, p)
				own = own || ok
				rp.Partition = p.Partition
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, own
	})
}

// TestTruncatedSourceFailsTheMirror: the source says that it lost what the mirror has. klink asks
// it under the new leader epoch, about the last batch, and once more after an error.
func TestTruncatedSourceFailsTheMirror(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 1)
	w.topics("other", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.mirror("other")
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	epoch := src.PartitionInfo("orders", 0).Epoch
	var errors atomic.Int32
	asked(src, func(topic string, p kmsg.OffsetForLeaderEpochRequestTopicPartition) (r kmsg.OffsetForLeaderEpochResponseTopicPartition, ok bool) {
		if topic != "orders" {
			return r, false
		}
		if p.LeaderEpoch != epoch || p.CurrentLeaderEpoch != epoch+1 {
			t.Errorf("asked about leader epoch %d under %d, want %d under %d", p.LeaderEpoch, p.CurrentLeaderEpoch, epoch, epoch+1)
		}
		if errors.Add(1) == 1 {
			r.ErrorCode = kerr.OffsetNotAvailable.Code
			return r, true
		}
		r.LeaderEpoch, r.EndOffset = epoch, 3
		return r, true
	})
	if err := src.MoveTopicPartition("orders", 0, 0); err != nil {
		t.Fatal(err)
	}
	w.produce("orders", 0, 5, 20)
	m := w.awaitState("orders", model.MirrorFailed)
	if m.Error != model.ErrUnexpectedTruncation {
		t.Errorf("error %s", m.Error)
	}
	wantIn(t, m.ErrorMessage, "orders-0", "offset 5", "up to offset 3", "fail the mirror over")
	if end := w.r.Status("orders")[0].MirrorEnd; end != 5 {
		t.Errorf("the mirror ends at %d, not where it ended before", end)
	}
	w.produce("other", 0, 3, 20)
	w.awaitCaughtUp("other")
}

// TestLastBatchIsComparedAfterARestart: another process knows from the checkpoint, or from the log,
// what to ask about.
func TestLastBatchIsComparedAfterARestart(t *testing.T) {
	for name, forget := range map[string]func(*model.Checkpoint){
		"from the checkpoint": func(*model.Checkpoint) {},
		"from the log":        func(c *model.Checkpoint) { c.Epoch, c.EpochEnd = 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			w, src, _ := embedded(t)
			w.topics("orders", 1)
			for range 3 { // epochs that are not all 0
				if err := src.MoveTopicPartition("orders", 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			epoch := src.PartitionInfo("orders", 0).Epoch
			w.produce("orders", 0, 5, 20)
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.awaitState("orders", model.MirrorActive)
			w.stop()
			w.control.mu.Lock()
			c, ok := w.control.checkpoints["orders-0"]
			if !ok || c.Epoch != epoch || c.EpochEnd != 5 {
				t.Errorf("the checkpoint is %+v, want leader epoch %d up to 5", c, epoch)
			}
			forget(&c)
			w.control.checkpoints["orders-0"] = c
			w.control.mu.Unlock()
			var times atomic.Int32
			asked(src, func(_ string, p kmsg.OffsetForLeaderEpochRequestTopicPartition) (r kmsg.OffsetForLeaderEpochResponseTopicPartition, ok bool) {
				if p.LeaderEpoch != epoch || p.CurrentLeaderEpoch != epoch {
					t.Errorf("asked about leader epoch %d under %d, want %d", p.LeaderEpoch, p.CurrentLeaderEpoch, epoch)
				}
				times.Add(1)
				return r, false
			})
			w.produce("orders", 0, 5, 20)
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
			w.produce("orders", 0, 5, 20)
			w.awaitCaughtUp("orders")
			if n := times.Load(); n != 1 {
				t.Errorf("the source was asked %d times, want once", n)
			}
		})
	}
}

// TestSourceThatCannotTellIsMirrored: some sources do not know the request, or answer only brokers.
func TestSourceThatCannotTellIsMirrored(t *testing.T) {
	without := kversion.Stable()
	without.SetMaxKeyVersion(int16(kmsg.OffsetForLeaderEpoch), -1)
	for name, c := range map[string]struct {
		versions *kversion.Versions
		err      *kerr.Error // nil = none
	}{
		"unknown":          {without, nil},
		"for brokers only": {kversion.Stable(), kerr.ClusterAuthorizationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			w, src, _ := embedded(t, kfake.MaxVersions(c.versions))
			var times atomic.Int32
			asked(src, func(string, kmsg.OffsetForLeaderEpochRequestTopicPartition) (r kmsg.OffsetForLeaderEpochResponseTopicPartition, ok bool) {
				times.Add(1)
				r.ErrorCode = c.err.Code
				return r, true
			})
			w.topics("orders", 1)
			w.produce("orders", 0, 5, 20)
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			if err := src.MoveTopicPartition("orders", 0, 0); err != nil {
				t.Fatal(err)
			}
			w.produce("orders", 0, 5, 20)
			w.awaitCaughtUp("orders")
			w.same("orders")
			if n := times.Load(); (n > 0) != (c.err != nil) {
				t.Errorf("the source was asked %d times", n)
			}
		})
	}
}

func TestEpochOfOffset(t *testing.T) {
	records := append(batchtest.HeaderOnly(10, 3, 0, 5), batchtest.HeaderOnly(20, 2, 0x20, 5)...) // with leader epoch 3
	for offset, want := range map[int64]int32{10: 3, 12: 3, 13: -1, 19: -1, 20: 3, 21: 3, 22: -1} {
		if got := epochOfOffset(records, offset); got != want {
			t.Errorf("offset %d is of leader epoch %d, want %d", offset, got, want)
		}
	}
	if got := epochOfOffset([]byte{1, 2, 3}, 0); got != -1 {
		t.Errorf("leader epoch %d of damage", got)
	}
}
