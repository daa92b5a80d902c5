package admin

import (
	"context"
	"hash/crc32"
	"testing"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lookWorld is Facts and a topic, two partitions on two brokers, whose logs are written batch by batch.
type lookWorld struct {
	*factsWorld
	t      *testing.T
	client *kgo.Client
}

func newLookWorld(t *testing.T) *lookWorld {
	w := &lookWorld{factsWorld: newFactsWorld(t, 2), t: t}
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	_, err = kadm.NewClient(w.client).CreateTopic(context.Background(), 2, 1, nil, "orders")
	require.NoError(t, err)
	return w
}

// append appends n records in one batch; logical < 0 = without a stamp.
func (w *lookWorld) append(partition int32, logical int64, n int) {
	w.t.Helper()
	appendBatch(w.t, w.client, "orders", partition, logical, n)
}

// appendBatch appends n records to a topic in one batch; logical < 0 = without a stamp.
func appendBatch(t testing.TB, client *kgo.Client, topic string, partition int32, logical int64, n int) {
	t.Helper()
	b := batch.Filler(nil, n, max(logical, 0))
	if logical >= 0 {
		// The filler's records are as good as any, but it is not to be one.
		require.NoError(t, batch.Stamp(b, logical, 0))
	} else {
		b = unstamped(t, b)
	}
	appendRaw(t, client, topic, partition, b)
}

// appendRaw appends a batch as it is.
func appendRaw(t testing.TB, client *kgo.Client, topic string, partition int32, b []byte) {
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

// unstamped is a batch of an ordinary producer with as many records as b.
func unstamped(t testing.TB, b []byte) []byte {
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

func (w *lookWorld) look(line *timeline.Partition, partition int32, physical int64) {
	w.t.Helper()
	require.NoError(w.t, w.facts.LearnOffset(context.Background(), "orders", partition, line, physical))
}

// A look into a log teaches the timeline what the stamps there say.
func TestLearnOffset(t *testing.T) {
	w := newLookWorld(t)
	for i := range int64(20) {
		w.append(1, 100+5*i, 3)
	}
	line := timeline.Open(0, 100, 100)
	finds := func(logical, want int64) {
		t.Helper()
		got, _, ok := line.FindPhysical(logical, 0)
		require.True(t, ok, "logical %d", logical)
		require.Equal(t, want, got, "logical %d", logical)
	}
	w.look(line, 1, timeline.ProbeEnd)
	finds(195, 57)
	finds(198, 60)
	l, _, ok := line.FindLogical(60)
	require.True(t, ok)
	require.EqualValues(t, 198, l)

	w.look(line, 1, 31) // inside a batch
	finds(150, 30)
	finds(153, 33)

	w.look(line, 1, 60) // at the end there is nothing
	w.look(line, 1, 1000)
	finds(198, 60)

	for tries := 0; ; tries++ {
		p, probe, ok := line.FindPhysical(121, tries)
		if ok {
			require.EqualValues(t, 13, p)
			break
		}
		require.Less(t, tries, 10)
		w.look(line, 1, probe)
	}
	err := w.facts.LearnOffset(context.Background(), "orders", 7, line, 0)
	require.ErrorContains(t, err, "orders-7 has no leader")
	require.Error(t, w.facts.LearnOffset(context.Background(), "nothing", 0, line, 0))
}

// Batches that are not klink's are passed over.
func TestLearnOffsetBesideForeignBatches(t *testing.T) {
	w := newLookWorld(t)
	w.append(0, 100, 5)
	w.append(0, -1, 2)
	w.append(0, -1, 3)
	w.append(0, 200, 5)
	w.append(0, -1, 4)
	line := timeline.Open(0, 100, 100)
	require.NoError(t, line.Hide(5, 10))
	require.NoError(t, line.Hide(15, 19))
	w.look(line, 0, timeline.ProbeEnd)
	got, _, ok := line.FindPhysical(203, 0)
	require.True(t, ok)
	require.EqualValues(t, 13, got)

	line = timeline.Open(0, 100, 100)
	require.NoError(t, line.Hide(5, 10))
	w.look(line, 0, 6)
	got, _, ok = line.FindPhysical(204, 0)
	require.True(t, ok)
	require.EqualValues(t, 14, got)
}

// Records that were deleted are not looked for again.
func TestLearnOffsetBelowLogStart(t *testing.T) {
	w := newLookWorld(t)
	for i := range int64(10) {
		w.append(0, 100+10*i, 5)
	}
	var offsets kadm.Offsets
	offsets.AddOffset("orders", 0, 20, -1)
	_, err := kadm.NewClient(w.client).DeleteRecords(context.Background(), offsets)
	require.NoError(t, err)
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, timeline.ProbeEnd)
	w.look(line, 0, 3)
	got, _, ok := line.FindPhysical(112, 0)
	require.True(t, ok)
	require.Less(t, got, int64(20), "out of range")
	got, _, ok = line.FindPhysical(143, 0)
	require.True(t, ok)
	require.EqualValues(t, 23, got)

	// All of them.
	offsets.AddOffset("orders", 0, 50, -1)
	offsets["orders"][0] = kadm.Offset{Topic: "orders", Partition: 0, At: 50}
	_, err = kadm.NewClient(w.client).DeleteRecords(context.Background(), offsets)
	require.NoError(t, err)
	line = timeline.Open(0, 100, 100)
	line.LearnProbe(50, 195, 0) // the checkpoint
	w.look(line, 0, timeline.ProbeEnd)
	got, _, ok = line.FindPhysical(195, 0)
	require.True(t, ok)
	require.EqualValues(t, 50, got)
	l, _, ok := line.FindLogical(50)
	require.True(t, ok)
	require.EqualValues(t, 195, l)
}

// A leader that has moved is found again.
func TestLearnOffsetAfterLeaderMoved(t *testing.T) {
	w := newLookWorld(t)
	w.append(0, 100, 5)
	w.append(0, 200, 5)
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, 0)
	require.NoError(t, w.cluster.MoveTopicPartition("orders", 0, 1-w.cluster.LeaderFor("orders", 0)))
	w.look(line, 0, 6)
	got, _, ok := line.FindPhysical(203, 0)
	require.True(t, ok)
	require.EqualValues(t, 8, got)
}
