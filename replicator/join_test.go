package replicator

import (
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinWorld is a world whose destination takes a while for an append, so that batches queue up
// behind one. It counts the appends.
func joinWorld(t *testing.T) (w *world, dst *kfake.Cluster, appends *atomic.Int64) {
	w, _, dst = embedded(t)
	w.configs["append.join.below"] = "16384"
	appends = &atomic.Int64{}
	dst.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		appends.Add(1)
		dst.SleepControl(func() { time.Sleep(20 * time.Millisecond) })
		return nil, nil, false
	})
	return w, dst, appends
}

// TestSmallBatchesAreJoined: batches that wait for an append go out as one, with every record
// unchanged. The first one need not wait, and goes out as it came.
func TestSmallBatchesAreJoined(t *testing.T) {
	w, _, appends := joinWorld(t)
	w.topics("orders", 1)
	for i := range 200 {
		w.produce("orders", 0, 1+i%3, 20)
	}
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.same("orders")
	c := w.r.metrics.link(linkName)
	if n := appends.Load(); n > 20 {
		t.Errorf("200 batches took %d appends", n)
	}
	if c.JoinedBatches.Load() < 100 || c.JoinedInto.Load() == 0 || c.JoinedIntoBytes.Load() >= c.JoinedBytes.Load() {
		t.Errorf("%d batches of %d bytes were joined to %d of %d bytes", c.JoinedBatches.Load(), c.JoinedBytes.Load(),
			c.JoinedInto.Load(), c.JoinedIntoBytes.Load())
	}
	// A batch that need not wait.
	joined := c.JoinedBatches.Load()
	for range 3 {
		w.produce("orders", 0, 2, 20)
		w.awaitCaughtUp("orders")
	}
	if n := c.JoinedBatches.Load(); n != joined {
		t.Errorf("%d batches that waited for nobody were joined", n-joined)
	}
	w.same("orders")
}

// TestNotJoined: batches of different codecs, batches that are not small, and batches on both sides
// of a hole stay apart.
func TestNotJoined(t *testing.T) {
	w, _, _ := joinWorld(t)
	w.topics("orders", 1)
	gzip, zstd := w.src.compressed(t, kgo.GzipCompression()), w.src.compressed(t, kgo.ZstdCompression())
	w.produce("orders", 0, 1, 20)
	for range 10 {
		w.produce("orders", 0, 4, 5000)
		send(t, gzip, "orders", 0, kafkatest.Records(3, 2000)...)
		send(t, zstd, "orders", 0, kafkatest.Records(3, 2000)...)
	}
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	if n := w.r.metrics.link(linkName).JoinedBatches.Load(); n != 0 {
		t.Errorf("%d batches were joined", n)
	}
	w.sameBatches("orders", 0, 0)
}

// TestCompressedBatchesAreJoined: with each codec.
func TestCompressedBatchesAreJoined(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := joinWorld(t)
			w.topics("orders", 1)
			src := w.src.compressed(t, codec)
			for range 60 {
				send(t, src, "orders", 0, kafkatest.Records(3, 300)...)
			}
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
			if n := w.r.metrics.link(linkName).JoinedBatches.Load(); n < 20 {
				t.Errorf("%d batches were joined", n)
			}
		})
	}
}

// TestJoinedBatchRefused: if the destination refuses a joined batch, its parts are appended one by
// one. klink learns a limit of the topic.
func TestJoinedBatchRefused(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.PolicyViolation} {
		t.Run(refusal.Message, func(t *testing.T) {
			w, _, dst := embedded(t)
			w.configs["append.join.below"] = "16384"
			w.topics("orders", 1)
			for range 100 {
				w.produce("orders", 0, 1, 200)
			}
			refused := &atomic.Int64{}
			dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				dst.KeepControl()
				dst.SleepControl(func() { time.Sleep(20 * time.Millisecond) })
				p := req.(*kmsg.ProduceRequest)
				if len(p.Topics[0].Partitions[0].Records) < 3000 {
					return nil, nil, false
				}
				refused.Add(1)
				resp := p.ResponseKind().(*kmsg.ProduceResponse)
				rt := kmsg.NewProduceResponseTopic()
				rt.Topic, rt.TopicID = p.Topics[0].Topic, p.Topics[0].TopicID
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = 0, refusal.Code, -1
				rt.Partitions = append(rt.Partitions, rp)
				resp.Topics = append(resp.Topics, rt)
				return resp, nil, true
			})
			w.mirror("orders")
			w.run()
			w.awaitCaughtUp("orders")
			w.same("orders")
			if m := w.control.mirror("orders"); m.State == model.MirrorFailed {
				t.Errorf("failed: %s", m.ErrorMessage)
			}
			if refused.Load() == 0 {
				t.Error("nothing was joined")
			}
			if void := w.void("orders"); void != "" {
				t.Errorf("void: %s", void)
			}
		})
	}
}
