// Package batchtest makes record batches for tests, and appends them to topics as they are.
package batchtest

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"klink/protocol/batch"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Append appends n records to a topic in one batch; logical < 0 = without a stamp.
func Append(t testing.TB, client *kgo.Client, topic string, partition int32, logical int64, n int) {
	t.Helper()
	b := batch.Filler(nil, n, max(logical, 0))
	if logical >= 0 {
		// Use the records of the filler, but overwrite its stamp: the batch must not be a filler.
		require.NoError(t, batch.Stamp(b, logical, 0))
	} else {
		b = WithoutStamp(t, b)
	}
	AppendInPlace(t, client, topic, partition, b)
}

// AppendInPlace appends a batch. If the batch has a stamp, it gets the place where it lands.
func AppendInPlace(t testing.TB, client *kgo.Client, topic string, partition int32, b []byte) {
	t.Helper()
	if _, _, _, stamped := batch.ReadStamp(b); stamped {
		ends, err := kadm.NewClient(client).ListEndOffsets(context.Background(), topic)
		require.NoError(t, err)
		end, ok := ends.Lookup(topic, partition)
		require.True(t, ok)
		batch.SetPlace(b, end.Offset)
	}
	AppendAsIs(t, client, topic, partition, b)
}

// AppendAsIs appends a batch as it is.
func AppendAsIs(t testing.TB, client *kgo.Client, topic string, partition int32, b []byte) {
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

// WithoutStamp is a batch of an ordinary producer with as many records as b.
func WithoutStamp(t testing.TB, b []byte) []byte {
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

// HeaderOnly returns a v2 batch with the given header fields, and payload in place of records: no
// code that uses it reads records.
func HeaderOnly(base int64, count int32, attributes int16, payload int) []byte {
	b := make([]byte, 61+payload)
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], 3) // leader epoch
	b[16] = 2
	binary.BigEndian.PutUint16(b[21:], uint16(attributes))
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[27:], 1000)
	binary.BigEndian.PutUint64(b[35:], 2000)
	for i := 43; i < 57; i++ {
		b[i] = 0xff // no producer
	}
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	for i := 61; i < len(b); i++ {
		b[i] = byte(base) + byte(i)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
