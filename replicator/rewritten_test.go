package replicator

import (
	"encoding/binary"
	"hash/crc32"
	"sync/atomic"
	"testing"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stripStamps makes a destination store batches without their stamps while on says so.
func stripStamps(dst *kfake.Cluster, on *atomic.Bool) {
	dst.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		if !on.Load() {
			return nil, nil, false
		}
		req := kreq.(*kmsg.ProduceRequest)
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				b := append([]byte(nil), req.Topics[i].Partitions[j].Records...)
				for k := 43; k < 57; k++ {
					b[k] = 0xff // producer id, epoch and sequence: none
				}
				binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
				req.Topics[i].Partitions[j].Records = b
			}
		}
		return nil, nil, false
	})
}

// TestStampLost: klink reads back the first append after a start, and one of the mirror's appends
// now and then. A batch without its stamp fails the mirror, and nothing more is appended.
func TestStampLost(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(map[bool]string{false: "from the first append on", true: "later"}[later], func(t *testing.T) {
			w, _, dst := embedded(t)
			var on atomic.Bool
			stripStamps(dst, &on)
			w.topics("orders", 1)
			w.produce("orders", 0, 2, 20)
			w.mirror("orders")
			if later {
				w.run()
				w.awaitState("orders", model.MirrorActive)
				w.awaitCaughtUp("orders")
				w.same("orders")
			}
			on.Store(true)
			if !later {
				w.run()
			}
			var m model.Mirror
			w.await("the mirror to fail", func() (bool, string) {
				m = w.control.mirror("orders")
				if m.State != model.MirrorFailed {
					w.produce("orders", 0, 1, 20)
				}
				return m.State == model.MirrorFailed, string(m.State)
			})
			if m.Error != model.ErrBatchRewritten {
				t.Fatalf("%s: %s", m.Error, m.ErrorMessage)
			}
			wantIn(t, m.ErrorMessage, "orders-0", "without its stamp", "message.format.version")
			end := dst.PartitionInfo("orders", 0).HighWatermark
			w.produce("orders", 0, 3, 20)
			w.stop()
			if now := dst.PartitionInfo("orders", 0).HighWatermark; now != end {
				t.Fatalf("%d offsets were appended after the mirror had failed", now-end)
			}
		})
	}
}
