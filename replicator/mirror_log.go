package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/internal/kafkaclient"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mirrorLog is the log of one mirror partition at the destination, for burns and scans, which do
// not go through the partition's stream. It retries nothing; after an error the next call looks for
// the leader again. For one goroutine.
type mirrorLog struct {
	d         *destination
	client    *kgo.Client // its appends must ask for acks=all
	topic     string
	topicID   [16]byte
	partition int32

	chunk int32      // bytes that a fetch asks for
	stale *destTopic // metadata of a call that has not succeeded
}

// newMirrorLog returns the log of a partition. Appends are large and keep a broker busy for long,
// and a connection handles one request at a time. So client should not be shared with other
// requests.
func newMirrorLog(d *destination, client *kgo.Client, topic string, topicID [16]byte, partition int32) *mirrorLog {
	return &mirrorLog{d: d, client: client, topic: topic, topicID: topicID, partition: partition, chunk: walkBytes}
}

func (l *mirrorLog) name() string { return fmt.Sprintf("%s-%d", l.topic, l.partition) }

// leader returns the broker that leads the partition, and the topic's metadata.
func (l *mirrorLog) leader(ctx context.Context) (*kgo.Broker, *destTopic, error) {
	t, err := l.d.topic(ctx, l.topic, l.stale)
	if err != nil {
		return nil, nil, err
	}
	l.stale = t // until the caller has succeeded
	leader, err := t.leader(l.topic, l.topicID, l.partition)
	if err != nil {
		return nil, nil, err
	}
	return l.client.Broker(int(leader)), t, nil
}

// leader returns the broker that leads a partition of the topic; id is the one that the topic had.
func (t *destTopic) leader(topic string, id [16]byte, partition int32) (int32, error) {
	if t.id != id && t.id != zeroID && id != zeroID {
		return -1, fmt.Errorf("%w: topic %q has been deleted and created again", errNotThere, topic)
	}
	if int(partition) >= len(t.leaders) || t.leaders[partition] < 0 {
		return -1, fmt.Errorf("%s-%d has no leader", topic, partition)
	}
	return t.leaders[partition], nil
}

// logEnds asks a leader for the start and end of a partition's log. The error is errNotCommitted if
// the end is above the high watermark: what is in between may still be truncated.
func logEnds(ctx context.Context, leader requester, topic string, partition, epoch int32) (start, end int64, err error) {
	ask := func(replica int32, timestamp int64) (int64, error) {
		return listOffset(ctx, leader, replica, timestamp, kafkaclient.OnePartition{Topic: topic, Partition: partition, Epoch: epoch})
	}
	// A client gets the leader's high watermark, the debugging replica (-2) the end of its log. All
	// three requests name the same leader epoch, so the same leader answers them.
	highWater, err := ask(-1, timestampLatest)
	if err != nil {
		return 0, 0, err
	}
	if end, err = ask(-2, timestampLatest); err != nil {
		return 0, 0, err
	}
	if highWater != end {
		return 0, 0, fmt.Errorf("%w: the log of %s-%d ends at offset %d but its high watermark is %d", errNotCommitted, topic, partition, end, highWater)
	}
	start, err = ask(-1, timestampEarliest)
	return start, end, err
}

// worked keeps the metadata of a call that succeeded.
func (l *mirrorLog) worked(t *destTopic) {
	if l.stale == t {
		l.stale = nil
	}
}

// ends returns the log's start and end. It fails if the end is not committed: what is above the
// high watermark may yet be truncated.
func (l *mirrorLog) ends(ctx context.Context) (start, end int64, err error) {
	leader, t, err := l.leader(ctx)
	if err != nil {
		return 0, 0, err
	}
	start, end, err = logEnds(ctx, leader, l.topic, l.partition, t.epochs[l.partition])
	if err == nil || errors.Is(err, errNotCommitted) {
		l.worked(t)
	}
	return start, end, err
}

// walk calls see for every batch, from the one that holds offset from to the last one that begins
// below to. see must not keep the batch. If see returns an error, walk ends and returns it.
func (l *mirrorLog) walk(ctx context.Context, from, to int64, see func(batch.Header) error) error {
	for from < to {
		records, err := l.fetch(ctx, from)
		if err != nil {
			return err
		}
		at := from
		for w := batch.Walk(records); ; {
			if !w.Next() {
				if w.Err() != nil {
					return w.Err()
				}
				break
			}
			b := w.Batch()
			if b.NextOffset() <= from {
				continue // a fetch returns whole batches, maybe from before the offset
			}
			if b.BaseOffset() >= to {
				return nil
			}
			if err := see(b); err != nil {
				return err
			}
			from = b.NextOffset()
		}
		if from == at {
			return fmt.Errorf("the response to a fetch of %s at offset %d has no batch with that offset", l.name(), from)
		}
	}
	return nil
}

// walkBytes is how many bytes a fetch asks for if batches are small. A single larger batch comes
// whole (KIP-74).
const walkBytes = 128 << 10

func (l *mirrorLog) fetch(ctx context.Context, offset int64) ([]byte, error) {
	leader, t, err := l.leader(ctx)
	if err != nil {
		return nil, err
	}
	of := kafkaclient.OnePartition{Topic: l.topic, TopicID: t.id, Partition: l.partition, Epoch: t.epochs[l.partition]}
	p, err := of.Fetch(ctx, leader, offset, kafkaclient.FetchBounds{Isolation: kafkaclient.ReadUncommitted, Wait: time.Second, MaxBytes: l.chunk, PartitionMaxBytes: l.chunk})
	if err != nil {
		if p != nil {
			err = fmt.Errorf("fetch of %s at offset %d: %w", l.name(), offset, err)
		}
		return nil, err
	}
	l.worked(t)
	return p.RecordBatches, nil
}

// append appends one batch and returns the offset of its first record. If the error is unanswered,
// the broker may still append the batch later.
func (l *mirrorLog) append(ctx context.Context, b []byte) (base int64, err error) {
	leader, t, err := l.leader(ctx)
	if err != nil {
		return 0, err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, produceTimeoutMs
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = l.topic, t.id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = l.partition, b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := leader.Request(ctx, req)
	if err != nil {
		return 0, asUnanswered(err)
	}
	resp := kresp.(*kmsg.ProduceResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != l.partition {
		return 0, fmt.Errorf("the response to a produce to %s has %d topics", l.name(), len(resp.Topics))
	}
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return 0, detailed(err, p.ErrorMessage)
	}
	l.worked(t)
	return p.BaseOffset, nil
}

// detailed adds the message of a response to its code.
func detailed(err error, message *string) error {
	if err == nil || message == nil || *message == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, *message)
}

// deleteBefore raises the log start offset to to. If the log start is already there or above,
// nothing changes, but the broker still checks the request.
func (l *mirrorLog) deleteBefore(ctx context.Context, to int64) error {
	leader, t, err := l.leader(ctx)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = produceTimeoutMs
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = l.topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = l.partition, to
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := leader.Request(ctx, req)
	if err != nil {
		return kafkaclient.NotOffered(err, kmsg.DeleteRecords)
	}
	resp := kresp.(*kmsg.DeleteRecordsResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("the DeleteRecords response for %s has %d topics", l.name(), len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		return err
	}
	l.worked(t)
	return nil
}

// askEnds is a ListOffsets request to one broker for the high watermarks of partitions that it
// leads. For one goroutine.
type askEnds struct {
	req    *kmsg.ListOffsetsRequest
	topics map[string]int // index in req.Topics, by name
}

func newAskEnds() *askEnds {
	q := &askEnds{req: kmsg.NewPtrListOffsetsRequest(), topics: map[string]int{}}
	q.req.ReplicaID = -1
	return q
}

// add adds a partition to the request. From ListOffsets v4 on, a broker that knows another leader
// epoch answers with an error.
func (q *askEnds) add(at partitionAt, epoch int32) {
	n, ok := q.topics[at.topic]
	if !ok {
		n = len(q.req.Topics)
		q.topics[at.topic] = n
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = at.topic
		q.req.Topics = append(q.req.Topics, t)
	}
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.Timestamp, p.MaxNumOffsets = at.partition, epoch, timestampLatest, 1
	q.req.Topics[n].Partitions = append(q.req.Topics[n].Partitions, p)
}

// send sends the request.
func (q *askEnds) send(ctx context.Context, to requester) (*kmsg.ListOffsetsResponse, error) {
	resp, err := to.Request(ctx, q.req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.ListOffsetsResponse), nil
}
