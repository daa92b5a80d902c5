package e2e

import (
	"fmt"
	"testing"

	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// afterStop stops both mirrors and writes to them: every version of Produce is given the offset
// behind the logical end, every version of Fetch and ListOffsets tells of it, an open transaction
// begins there, and every version of DeleteRecords takes and answers logical offsets.
func (r *reading) afterStop(t *testing.T) {
	topics := []string{aligned, shifted}
	for _, topic := range topics {
		r.k.MustCLI(t, "mirror", "failover", topic)
		awaitMirrorState(t, r.k, topic, "STOPPED", "")
	}
	r.through.refresh(r.ctx, readTopics...)
	for _, topic := range topics {
		for p := range int32(readPartitions) {
			leader := r.through.leader(topic, p)
			for _, v := range leader.versions(kmsg.Produce) {
				if v < 3 {
					continue // of formats that no broker takes any more
				}
				value := fmt.Sprintf("own, v%d", v)
				b := oneRecordBatch(value)
				rec := record{
					partition: p, offset: r.end[topic][p], timestampType: "CreateTime",
					timestamp: batch.Header(b).MaxTimestamp(), key: null, value: value,
				}
				got := r.produce(t, topic, p, v, b)
				if got.ErrorCode != 0 || got.BaseOffset != rec.offset || v >= 5 && got.LogStartOffset != r.start[topic][p] {
					t.Fatalf("Produce v%d to %s-%d: %+v, want offset %d and log start %d", v, topic, p, got, rec.offset, r.start[topic][p])
				}
				r.end[topic][p]++
				r.want[topic] = sorted(append(r.want[topic], rec))
			}
			for _, v := range leader.versions(kmsg.Fetch) {
				r.fetchAll(t, topic, p, v)
			}
			for _, v := range leader.versions(kmsg.ListOffsets) {
				start, end := r.list(t, r.through, topic, p, v, -2).Offset, r.list(t, r.through, topic, p, v, -1).Offset
				if start != r.start[topic][p] || end != r.end[topic][p] {
					t.Errorf("ListOffsets v%d of %s-%d: from %d to %d, want %d to %d", v, topic, p, start, end, r.start[topic][p], r.end[topic][p])
				}
			}
			for n, v := range leader.versions(kmsg.DeleteRecords) {
				to := r.start[topic][p] + int64(n) + 1
				req := kmsg.NewPtrDeleteRecordsRequest()
				rt := kmsg.NewDeleteRecordsRequestTopic()
				rt.Topic = topic
				rp := kmsg.NewDeleteRecordsRequestTopicPartition()
				rp.Partition, rp.Offset = p, to
				rt.Partitions = append(rt.Partitions, rp)
				req.Topics, req.TimeoutMillis = append(req.Topics, rt), 30000
				got := ask[*kmsg.DeleteRecordsResponse](leader, req, v).Topics[0].Partitions[0]
				// In a hole nothing can be deleted up to, so that the next record is the first one.
				if got.ErrorCode != 0 || got.LowWatermark < to || got.LowWatermark > r.from(topic, p, to)[0].offset {
					t.Errorf("DeleteRecords v%d of %s-%d up to %d: %+v", v, topic, p, to, got)
				}
			}
		}
		r.ownTransaction(t, topic)
	}
}

// produce sends one batch in a version of Produce.
func (r *reading) produce(t *testing.T, topic string, partition int32, version int16, b []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, r.through.id(topic)
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return ask[*kmsg.ProduceResponse](r.through.leader(topic, partition), req, version).Topics[0].Partitions[0]
}

// ownTransaction opens a transaction: DescribeProducers tells the logical offset where it begins.
func (r *reading) ownTransaction(t *testing.T, topic string) {
	t.Helper()
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(r.k.Bootstrap()), kgo.TransactionalID("own-"+topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	rec, err := cl.ProduceSync(r.ctx, &kgo.Record{Topic: topic, Value: []byte("open")}).First()
	if err != nil || rec.Offset != r.end[topic][0] {
		t.Fatalf("a transaction's record stands at %+v, want %d: %v", rec, r.end[topic][0], err)
	}
	open := int64(-1)
	for _, p := range r.producers(t, topic, 0) {
		open = max(open, p.CurrentTxnStartOffset)
	}
	if open != rec.Offset {
		t.Errorf("the open transaction of %s begins at %d, want %d", topic, open, rec.Offset)
	}
	if err := cl.EndTransaction(r.ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
