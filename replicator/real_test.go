package replicator

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// real returns a world of two shared clusters of real brokers.
func real(t *testing.T) *world {
	t.Helper()
	src, dst := kafkatest.Shared(t, "source"), kafkatest.Shared(t, "destination")
	return newWorld(t, []string{src.Bootstrap()}, []string{dst.Bootstrap()})
}

// rawBatches reads the batches of a partition from an offset to the end, as they are in the log.
func rawBatches(t *testing.T, c cluster, topic string, partition int32, offset int64) (all []batch.Header) {
	t.Helper()
	details, err := kadm.NewClient(c.cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	detail := details[topic]
	for {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxBytes, req.SessionEpoch, req.MaxWaitMillis = -1, 8<<20, -1, 100
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = topic, detail.ID
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, offset, 8<<20, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		kresp, err := c.cl.Broker(int(detail.Partitions[partition].Leader)).Request(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		p := kresp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			t.Fatal(err)
		}
		if offset >= p.HighWatermark {
			return all
		}
		w := batch.Walk(p.RecordBatches)
		for w.Next() {
			all = append(all, w.Batch())
			offset = w.Batch().NextOffset()
		}
		if w.Err() != nil {
			t.Fatal(w.Err())
		}
	}
}

// sameBatches checks that the mirror's log has the source's batches from an offset on, byte for
// byte except for the stamp.
func (w *world) sameBatches(topic string, partition int32, offset int64) (n int) {
	w.t.Helper()
	tl := w.control.State().Timelines[topic][partition]
	want := rawBatches(w.t, w.src, topic, partition, offset)
	got := rawBatches(w.t, w.dst, topic, partition, offset-tl.Shift())
	if len(got) != len(want) {
		w.t.Fatalf("%s-%d: %d batches in the mirror, %d at the source", topic, partition, len(got), len(want))
	}
	for i, a := range want {
		b := got[i]
		logical, _, _, stamped := batch.ReadStamp(b)
		switch {
		case !stamped || logical != a.BaseOffset() || b.BaseOffset()+tl.Shift() != a.BaseOffset():
			w.t.Fatalf("%s-%d: batch %d of the mirror at %d is stamped %d (%v), the source has %d", topic, partition, i, b.BaseOffset(), logical, stamped, a.BaseOffset())
		case !batch.VerifyCRC(b):
			w.t.Fatalf("%s-%d: batch %d has a wrong checksum", topic, partition, i)
		case !bytes.Equal(a[batch.HeaderSize:], b[batch.HeaderSize:]) || a.Count() != b.Count() || a.Attributes() != b.Attributes() ||
			a.BaseTimestamp() != b.BaseTimestamp() || a.MaxTimestamp() != b.MaxTimestamp():
			w.t.Fatalf("%s-%d: batch %d at offset %d differs", topic, partition, i, a.BaseOffset())
		}
	}
	return len(want)
}

// mixed appends batches of all codecs and sizes to every partition of a source topic.
func (w *world) mixed(topic string, partitions int32, rounds int) {
	w.t.Helper()
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, codec := range codecs {
		cl := kafkatest.NewClient(w.t, kgo.SeedBrokers(w.src.seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(codec), kgo.ManualFlushing())
		for range rounds {
			for p := range partitions {
				send(w.t, cl, topic, p, kafkatest.Records(1+random.IntN(200), 1+random.IntN(400))...)
			}
		}
	}
}

// TestRealKafkaAllCodecs: twelve partitions of batches of every codec, a backlog and then live,
// between two Kafka 4.3.1.
func TestRealKafkaAllCodecs(t *testing.T) {
	w := real(t)
	w.topics("codecs", 12)
	w.mixed("codecs", 12, 3)
	w.mirror("codecs")
	w.run()
	w.awaitState("codecs", model.MirrorActive)
	w.mixed("codecs", 12, 1)
	w.awaitCaughtUp("codecs")
	n := 0
	for p := range int32(12) {
		n += w.sameBatches("codecs", p, 0)
	}
	if n < 12*4*5 {
		t.Errorf("only %d batches were compared", n)
	}
	w.same("codecs")

	// After a restart the mirror goes on; a second restart finds nothing to do.
	w.stop()
	w.mixed("codecs", 12, 1)
	w.run()
	w.awaitCaughtUp("codecs")
	w.same("codecs")
}

// TestRealKafkaLogStartInTheMiddleOfABatch: the destination's log start becomes the source's.
func TestRealKafkaLogStartInTheMiddleOfABatch(t *testing.T) {
	w := real(t)
	w.topics("middle", 2)
	for range 4 {
		w.produce("middle", 0, 10, 100)
	}
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "middle", 0, 17)
	w.mirror("middle")
	w.run()
	w.awaitCaughtUp("middle")
	w.await("the destination's log start", func() (bool, string) {
		starts, err := kadm.NewClient(w.dst.cl).ListStartOffsets(t.Context(), "middle")
		if err != nil {
			return false, err.Error()
		}
		o, _ := starts.Lookup("middle", 0)
		return o.Offset == 7, fmt.Sprint(o.Offset)
	})
	w.same("middle")
	w.produce("middle", 1, 3, 10)
	w.awaitCaughtUp("middle")
	w.sameBatches("middle", 0, 20)
	w.same("middle")
}

// TestRealKafkaRecordTooLarge: a batch that the destination's topic does not take fails the mirror
// by name.
func TestRealKafkaRecordTooLarge(t *testing.T) {
	w := real(t)
	kafkatest.CreateTopic(t, w.src.cl, "large", 1, -1, nil)
	kafkatest.CreateTopic(t, w.dst.cl, "large", 1, -1, map[string]string{"max.message.bytes": "1000"})
	w.produce("large", 0, 1, 100)
	w.produce("large", 0, 1, 5000)
	w.mirror("large")
	w.run()
	m := w.awaitState("large", model.MirrorFailed)
	if m.Error != model.ErrRecordTooLarge {
		t.Errorf("error %s: %s", m.Error, m.ErrorMessage)
	}
	wantIn(t, m.ErrorMessage, "large-0", "source offsets 1 to 1", "max.message.bytes")
}

// TestRealKafkaBrokersDie: three destination brokers with replication factor 3; one dies while
// records are mirrored, comes back, and then another.
func TestRealKafkaBrokersDie(t *testing.T) {
	src := kafkatest.Shared(t, "source")
	dst := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Heap("256m"))
	w := newWorld(t, []string{src.Bootstrap()}, []string{dst.Brokers()[0].Addr(), dst.Brokers()[1].Addr(), dst.Brokers()[2].Addr()})
	w.topics("deaths", 6)
	w.mirror("deaths")
	w.run()
	w.awaitState("deaths", model.MirrorActive)
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for p := range int32(6) {
				if err := tryAppendBatch(t.Context(), w.src.cl, "deaths", p, kafkatest.Records(5, 100)...); err != nil {
					t.Error(err)
					return
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	moved := func(least int64) {
		t.Helper()
		before := w.r.Status("deaths")
		w.await("every partition to move on", func() (bool, string) {
			st := w.r.Status("deaths")
			for p := range st {
				if st[p].MirrorEnd < before[p].MirrorEnd+least {
					return false, fmt.Sprintf("%+v", st)
				}
			}
			return len(st) == 6, fmt.Sprintf("%+v", w.control.mirror("deaths"))
		})
	}
	moved(50)
	for _, n := range []int{1, 2} {
		b := dst.Brokers()[n]
		b.Kill()
		moved(50)
		b.Restart(t)
		moved(50)
	}
	close(stop)
	<-done
	w.awaitCaughtUp("deaths")
	for p := range int32(6) {
		w.sameBatches("deaths", p, 0)
	}
	t.Logf("appends settled by reading the log back: %d", w.r.Stats().Links[linkName].Settled.Load())
}
