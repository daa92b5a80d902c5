package replicator

import (
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRealKafkaDestinationWithoutAppendTime: a destination refuses the LogAppendTime bit, as
// brokers of 2.x do, and gets batches without it. The time of the append is not lost, and each
// partition meets the refusal at most once.
func TestRealKafkaDestinationWithoutAppendTime(t *testing.T) {
	// When the embedded cluster sets the time of the append, it leaves the checksum of the batch as
	// it was.
	src, dst := kafkatest.Shared(t, "source"), kafkatest.Embedded(t, 1)
	w := newWorld(t, []string{src.Bootstrap()}, dst.ListenAddrs())
	kafkatest.CreateTopic(t, w.src.cl, "stamped", 2, -1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	kafkatest.CreateTopic(t, w.dst.cl, "stamped", 2, -1, nil)
	for n := range 4 {
		if n == 2 {
			set(t, w.src.cl, "stamped", "message.timestamp.type", "CreateTime")
		}
		for p := range int32(2) {
			w.produce("stamped", p, 3, 20)
		}
	}
	refusals := 0
	dst.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, rt := range req.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.UnknownServerError.Code
				if batch.Header(rp.Records).LogAppendTime() {
					p.ErrorCode, refused = kerr.InvalidTimestamp.Code, true
					refusals++
				}
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, refused // if a part of the request is refused, the rest is tried again
	})
	w.mirror("stamped")
	w.run()
	w.awaitCaughtUp("stamped")
	w.awaitState("stamped", model.MirrorActive)
	for p := range int32(2) {
		want := rawBatches(t, w.src, "stamped", p, 0)
		for n, b := range rawBatches(t, w.dst, "stamped", p, 0) {
			logical, flags, _, ok := batch.ReadStamp(b)
			if !ok || logical != int64(3*n) || (flags&1 != 0) != want[n].LogAppendTime() || b.LogAppendTime() {
				t.Errorf("batch %d of partition %d is stamped %d, flags %b, LogAppendTime %v", n, p, logical, flags, b.LogAppendTime())
			}
		}
	}
	want := kafkatest.ReadAll(t, "stamped", kgo.SeedBrokers(w.src.seeds...))
	got := kafkatest.ReadAll(t, "stamped", kgo.SeedBrokers(w.dst.seeds...))
	if len(got) != 24 || len(want) != 24 {
		t.Fatalf("%d records at the source, %d in the mirror, want 24", len(want), len(got))
	}
	for i, r := range got {
		if !r.Timestamp.Equal(want[i].Timestamp) || string(r.Key) != string(want[i].Key) {
			t.Errorf("record %d: %s at %v, want %s at %v", i, r.Key, r.Timestamp, want[i].Key, want[i].Timestamp)
		}
	}
	if refusals == 0 || refusals > 2 {
		t.Errorf("%d batches were refused; one for each partition teaches all", refusals)
	}
}

// set sets a config of a topic.
func set(t *testing.T, cl *kgo.Client, topic, key, value string) {
	t.Helper()
	rs, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: key, Value: &value}}, topic)
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs)
	}
}
