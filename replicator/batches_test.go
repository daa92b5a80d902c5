package replicator

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"klink/internal/batchtest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recordBatch returns a v2 batch with records, uncompressed.
func recordBatch(records []*kgo.Record) []byte {
	now := time.Now().UnixMilli()
	var payload []byte
	for i, r := range records {
		rec := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: int32(i), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := rec.AppendTo(nil)[1:] // without the length, which is one byte while it is 0
		payload = binary.AppendVarint(payload, int64(len(body)))
		payload = append(payload, body...)
	}
	b := batchtest.HeaderOnly(0, int32(len(records)), 0, len(payload))
	copy(b[61:], payload)
	binary.BigEndian.PutUint32(b[12:], 0xffffffff) // leader epoch: the broker sets it
	binary.BigEndian.PutUint64(b[27:], uint64(now))
	binary.BigEndian.PutUint64(b[35:], uint64(now+int64(len(records))-1))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// appendBatch appends records as exactly one batch. A producer client does not promise that.
func appendBatch(t *testing.T, cl *kgo.Client, topic string, partition int32, records ...*kgo.Record) {
	t.Helper()
	appendBytes(t, cl, topic, partition, recordBatch(records))
}

// appendBytes produces a batch as it is.
func appendBytes(t *testing.T, cl *kgo.Client, topic string, partition int32, b []byte) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := tryAppendBytes(t.Context(), cl, topic, partition, b)
		// A broker learns that it leads the partition a moment after the topic was created. Until
		// then it appends nothing.
		if isOneOf(err, kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID) && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatalf("produce to %s-%d: %v", topic, partition, err)
		}
		return
	}
}

func tryAppendBatch(ctx context.Context, cl *kgo.Client, topic string, partition int32, records ...*kgo.Record) error {
	return tryAppendBytes(ctx, cl, topic, partition, recordBatch(records))
}

func tryAppendBytes(ctx context.Context, cl *kgo.Client, topic string, partition int32, b []byte) error {
	details, err := kadm.NewClient(cl).ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrProduceRequest()
	req.TimeoutMillis = 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, details[topic].ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(int(details[topic].Partitions[partition].Leader)).Request(ctx, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}
