package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// lookTimeout bounds one look into a log: a client waits for it.
	lookTimeout = 10 * time.Second
	// leadersFor is how long the leaders of a topic are remembered, unless one refuses.
	leadersFor = 10 * time.Second
	// maxSteps is how many batches without a stamp are passed over in search of one.
	maxSteps = 16
	// maxLeaders bounds the topics that are remembered.
	maxLeaders = 10_000
)

// topicLeaders are the leaders of one topic's partitions.
type topicLeaders struct {
	id    [16]byte
	nodes map[int32]int32
	until time.Time
}

// leaderCache remembers leaders; the zero value is empty.
type leaderCache struct {
	mu     sync.Mutex
	topics map[string]*topicLeaders
}

// LearnOffset implements router.Facts. It reads one batch, whatever its size, or a few where some have no stamp.
func (f *Facts) LearnOffset(ctx context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if physical == timeline.ProbeEnd && f.cfg.CatchUp != nil {
		// The owner of the mirror may have shown an end that no batch tells of: behind a hole, or after the stop.
		if err := f.cfg.CatchUp(ctx, topic); err != nil {
			return err
		}
	}
	err := f.look(ctx, topic, partition, line, physical)
	if err != nil && ctx.Err() == nil {
		// Another leader, most likely.
		f.leaders.forget(topic)
		err = f.look(ctx, topic, partition, line, physical)
	}
	return err
}

func (f *Facts) look(ctx context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error {
	l, err := f.logOf(ctx, topic, partition)
	if err != nil {
		return err
	}
	if physical != timeline.ProbeEnd {
		found, err := l.learnFrom(ctx, line, physical)
		if !errors.Is(err, kerr.OffsetOutOfRange) && (found || err != nil) {
			return err
		}
	}
	// Below the log's start, at its end, beyond that, or before batches that all lack a stamp.
	start, err := l.offset(ctx, -2)
	if err != nil {
		return err
	}
	end, err := l.offset(ctx, -1)
	if err != nil {
		return err
	}
	line.LearnStart(start)
	if physical < start {
		if found, err := l.learnFrom(ctx, line, start); found || err != nil {
			return err
		}
	}
	if err := l.learnLast(ctx, line, start, end); err != nil {
		return err
	}
	line.LearnEnd(end)
	return nil
}

// logAt is the log of one partition at its leader.
type logAt struct {
	broker    *kgo.Broker
	topic     string
	id        [16]byte
	partition int32
}

// learnFrom teaches line the first batch with a stamp at or behind physical. found is false if there is none, or none near.
func (l *logAt) learnFrom(ctx context.Context, line *timeline.Partition, physical int64) (found bool, err error) {
	for range maxSteps {
		records, err := l.read(ctx, physical)
		if err != nil {
			return false, err
		}
		next := physical
		for w := batch.Walk(records); w.Next(); {
			b := w.Batch()
			if b.NextOffset() <= physical {
				continue
			}
			if learnBatch(line, b) {
				return true, nil
			}
			next = b.NextOffset()
		}
		if next == physical {
			return false, nil // the end, or nothing of klink's
		}
		physical = next
	}
	return false, nil
}

// learnLast teaches line the last batch with a stamp of a log.
func (l *logAt) learnLast(ctx context.Context, line *timeline.Partition, start, end int64) error {
	for range maxSteps {
		if end <= start {
			return nil
		}
		records, err := l.read(ctx, end-1)
		if err != nil {
			return err
		}
		before := end - 1
		for w := batch.Walk(records); w.Next(); {
			b := w.Batch()
			if b.BaseOffset() < end && b.NextOffset() >= end {
				if learnBatch(line, b) {
					return nil
				}
				before = b.BaseOffset()
				break
			}
		}
		end = before
	}
	return nil
}

// learnBatch teaches line what the stamp of a batch says; false if it has none that counts.
func learnBatch(line *timeline.Partition, b batch.Header) bool {
	logical, flags, _, stamped := batch.ReadStamp(b)
	if !stamped || flags&batch.FlagFiller != 0 || b.LastOffsetDelta() < 0 || line.IsHidden(b.BaseOffset()) {
		return false
	}
	line.LearnProbe(b.BaseOffset(), logical, int64(b.LastOffsetDelta())+1)
	return true
}

// read reads the batch that holds a physical offset; nothing at the end of the log.
func (l *logAt) read(ctx context.Context, physical int64) ([]byte, error) {
	return l.readMany(ctx, physical, 1) // the first batch comes whole (KIP-74)
}

// readMany reads batches from the one on that holds a physical offset, about as many bytes as limit, or one batch.
func (l *logAt) readMany(ctx context.Context, physical int64, limit int32) ([]byte, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch = -1, -1
	req.MaxBytes = limit
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = l.topic, l.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = l.partition, physical, limit
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, l.broker)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch of %s-%d was answered for %d topics", l.topic, l.partition, len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	return got.RecordBatches, kerr.ErrorForCode(got.ErrorCode)
}

// offset asks for the log start (timestamp -2) or the high watermark (-1).
func (l *logAt) offset(ctx context.Context, timestamp int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = l.topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = l.partition, timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, l.broker)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("offsets of %s-%d were answered for %d topics", l.topic, l.partition, len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	return got.Offset, kerr.ErrorForCode(got.ErrorCode)
}

// logOf finds the leader of a partition.
func (f *Facts) logOf(ctx context.Context, topic string, partition int32) (*logAt, error) {
	t := f.leaders.get(topic, f.cfg.Now())
	if t == nil {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &topic
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, f.client)
		if err != nil {
			return nil, fmt.Errorf("leaders of topic %q at the destination: %w", topic, err)
		}
		if len(resp.Topics) != 1 {
			return nil, fmt.Errorf("metadata of topic %q was answered for %d topics", topic, len(resp.Topics))
		}
		if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
			return nil, fmt.Errorf("leaders of topic %q at the destination: %w", topic, err)
		}
		t = &topicLeaders{id: resp.Topics[0].TopicID, nodes: map[int32]int32{}, until: f.cfg.Now().Add(leadersFor)}
		for _, p := range resp.Topics[0].Partitions {
			t.nodes[p.Partition] = p.Leader
		}
		f.leaders.put(topic, t)
	}
	leader, ok := t.nodes[partition]
	if !ok || leader < 0 {
		f.leaders.forget(topic)
		return nil, fmt.Errorf("%s-%d has no leader at the destination", topic, partition)
	}
	return &logAt{broker: f.client.Broker(int(leader)), topic: topic, id: t.id, partition: partition}, nil
}

func (c *leaderCache) get(topic string, now time.Time) *topicLeaders {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[topic]; t != nil && now.Before(t.until) {
		return t
	}
	return nil
}

func (c *leaderCache) put(topic string, t *topicLeaders) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topics == nil || len(c.topics) >= maxLeaders {
		c.topics = map[string]*topicLeaders{}
	}
	c.topics[topic] = t
}

func (c *leaderCache) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}
