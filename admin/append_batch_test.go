package admin

import (
	"context"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/batch"
)

// appendStamped appends n records to a topic in one batch; logical < 0 = without a stamp.
func appendStamped(t testing.TB, client *kgo.Client, topic string, partition int32, logical int64, n int) {
	t.Helper()
	b := batch.Filler(nil, n, max(logical, 0))
	if logical >= 0 {
		// Use the records of the filler, but overwrite its stamp: the batch must not be a filler.
		require.NoError(t, batch.Stamp(b, logical, 0))
	} else {
		b = withoutStamp(t, b)
	}
	appendInPlace(t, client, topic, partition, b)
}

// appendInPlace appends a batch. If the batch has a stamp, it gets the place where it lands.
func appendInPlace(t testing.TB, client *kgo.Client, topic string, partition int32, b []byte) {
	t.Helper()
	if _, _, _, stamped := batch.ReadStamp(b); stamped {
		ends, err := kadm.NewClient(client).ListEndOffsets(context.Background(), topic)
		require.NoError(t, err)
		end, ok := ends.Lookup(topic, partition)
		require.True(t, ok)
		batch.SetPlace(b, end.Offset)
	}
	appendAsIs(t, client, topic, partition, b)
}

// appendAsIs appends a batch as it is.
func appendAsIs(t testing.TB, client *kgo.Client, topic string, partition int32, b []byte) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	topics, err := kadm.NewClient(client).ListTopics(context.Background(), topic)
	require.NoError(t, err)
	rt.TopicID = topics[topic].ID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, b
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	leader := topics[topic].Partitions[partition].Leader
	resp, err := req.RequestWith(context.Background(), client.Broker(int(leader)))
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
}

// withoutStamp is a batch of an ordinary producer with as many records as b.
func withoutStamp(t testing.TB, b []byte) []byte {
	t.Helper()
	h := batch.Header(b)
	records := make([]kmsg.Record, h.Count())
	var body []byte
	for i := range records {
		r := kmsg.Record{OffsetDelta: int32(i)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		body = r.AppendTo(body)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: h.Count() - 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: h.Count(), Records: body,
	}
	rb.Length = int32(49 + len(body))
	raw := rb.AppendTo(nil)
	rb.CRC = int32(crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return rb.AppendTo(nil)
}
