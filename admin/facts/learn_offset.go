package facts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"klink/internal/kafkaclient"
	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// lookTimeout bounds one look into a log, because a client waits for it.
	lookTimeout = 10 * time.Second
	// leadersFor is how long klink caches the leaders of a topic, unless a request to one fails.
	leadersFor = 10 * time.Second
	// maxLookBytes bounds how much of a log one look reads, because batches that do not count may
	// lie in the way.
	maxLookBytes = 64 << 20
	// lookBackBytes is how much LookBack reads at a time of the window before a batch. That is a
	// few small batches, or one large one.
	lookBackBytes = 64 << 10
	// maxLeaders bounds the topics whose leaders klink caches.
	maxLeaders = 10_000
)

// topicLeaders are the leaders of one topic's partitions.
type topicLeaders struct {
	id    [16]byte
	nodes map[int32]int32
	until time.Time
}

// leaderCache caches leaders; the zero value is empty.
type leaderCache struct {
	mu     sync.Mutex
	topics map[string]*topicLeaders
}

// LearnOffset implements router.Facts. It reads one batch, whatever its size, and more if some
// batches do not count.
func (f *Facts) LearnOffset(ctx context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if physical == timeline.ProbeEnd && f.cfg.CatchUp != nil {
		// The owner may have shown clients an end that no batch in the log tells: behind a hole, or
		// after the stop.
		if err := f.cfg.CatchUp(ctx, topic); err != nil {
			return err
		}
	}
	err := f.look(ctx, topic, partition, line, physical)
	if err != nil && ctx.Err() == nil {
		// Most likely the leader has changed.
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
	l.left = f.maxLook
	if physical != timeline.ProbeEnd {
		found, err := l.learnFrom(ctx, line, physical)
		if !errors.Is(err, kerr.OffsetOutOfRange) && (found || err != nil) {
			return err
		}
	}
	// physical is below the log start offset, at the end of the log or beyond it, or before batches
	// none of which counts.
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
	if known, err := l.learnLast(ctx, line, start, end); err != nil || !known {
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
	left      int // bytes that may still be read in search of a batch that counts
}

// learnFrom finds the first batch that counts at or behind physical. It teaches line that batch,
// and that no other one lies before it. found is false if the log ends first, or if l.left bytes
// were read.
func (l *logAt) learnFrom(ctx context.Context, line *timeline.Partition, physical int64) (found bool, err error) {
	limit := int32(1) // one batch: most often it counts
	var chain batch.Chain
	for from := physical; l.left > 0; limit = seekBytes {
		records, err := l.read(ctx, from, limit)
		if err != nil {
			return false, err
		}
		next := from
		for w := batch.Walk(records); w.Next(); {
			b := w.Batch()
			if b.NextOffset() <= from {
				continue
			}
			verdict, err := l.judge(ctx, line, &chain, b)
			if err != nil {
				return false, err
			}
			if learnBatch(line, b, verdict) {
				if logical, _, _, _ := batch.ReadStamp(b); b.BaseOffset() > physical {
					line.LearnProbe(physical, logical, 0)
				}
				return true, nil
			}
			line.LearnVoid(b.BaseOffset(), b.NextOffset())
			next = b.NextOffset()
		}
		if l.left -= len(records); next == from {
			return false, nil // the end
		}
		from = next
	}
	return false, nil
}

// learnLast finds the last batch of a log that counts. It teaches line that batch, and that no
// other one lies behind it. It reads the log backwards from its end, in pieces. Each piece has as
// many offsets as all pieces read before it. known is false if there was too much to read.
func (l *logAt) learnLast(ctx context.Context, line *timeline.Partition, start, end int64) (known bool, err error) {
	limit := int32(1)
	for from, to := end, end; from > start; limit = seekBytes {
		to, from = from, max(start, min(from-1, from-(end-from)))
		var last batch.Header
		var chain batch.Chain
		first := from
		for at := from; at < to; {
			if l.left <= 0 {
				return false, nil
			}
			records, err := l.read(ctx, at, limit)
			if err != nil {
				return false, err
			}
			next := at
			for w := batch.Walk(records); w.Next(); {
				b := w.Batch()
				if b.NextOffset() <= at || b.BaseOffset() >= end {
					continue
				}
				verdict, err := l.judge(ctx, line, &chain, b)
				if err != nil {
					return false, err
				}
				first = min(first, b.BaseOffset())
				if next = b.NextOffset(); isShown(line, b, verdict) {
					last = b[:batch.HeaderSize:batch.HeaderSize]
				}
			}
			if l.left -= len(records); next == at {
				break // what was there has been removed
			}
			at = next
		}
		if last != nil {
			learnBatch(line, last, batch.VerdictCounts)
			logical, _, _, _ := batch.ReadStamp(last)
			line.LearnProbe(end, logical+last.NextOffset()-last.BaseOffset(), 0)
			return true, nil
		}
		from = first
	}
	line.LearnStart(end) // no batch counts
	return true, nil
}

// judge decides whether the next batch of a walk counts. That may depend on the batch before it. If
// the walk begins with such a batch, judge asks line, or else reads what stands in front of it.
func (l *logAt) judge(ctx context.Context, line *timeline.Partition, chain *batch.Chain, b batch.Header) (batch.Verdict, error) {
	verdict := chain.See(b)
	if verdict != batch.VerdictUnsure {
		return verdict, nil
	}
	logical, _, _, _ := batch.ReadStamp(b)
	counts, sure := line.Before(b.BaseOffset(), logical)
	if !sure {
		start, err := l.offset(ctx, -2)
		if err != nil {
			return verdict, err
		}
		counts, err = batch.LookBack(b, start, func(from int64) ([]byte, error) {
			records, err := l.read(ctx, from, lookBackBytes)
			if l.left -= len(records); err == nil && l.left <= 0 {
				err = fmt.Errorf("could not verify offset %d of %s-%d at the destination: too much data before it to read", b.BaseOffset(), l.topic, l.partition)
			}
			return records, err
		})
		if err != nil {
			return verdict, err
		}
	}
	return chain.Settle(counts), nil
}

// learnBatch teaches line what the stamp of a batch says. It returns false, and teaches nothing, if
// readers are shown no record of the batch.
func learnBatch(line *timeline.Partition, b batch.Header, verdict batch.Verdict) bool {
	if !isShown(line, b, verdict) {
		return false
	}
	logical, _, _, _ := batch.ReadStamp(b)
	line.LearnProbe(b.BaseOffset(), logical, int64(b.LastOffsetDelta())+1)
	return true
}

// isShown reports whether readers of the mirror are shown records of a batch. They see none behind
// the mirror's end.
func isShown(line *timeline.Partition, b batch.Header, verdict batch.Verdict) bool {
	_, flags, _, _ := batch.ReadStamp(b)
	return verdict == batch.VerdictCounts && flags&batch.FlagFiller == 0 && b.LastOffsetDelta() >= 0 && !line.Behind(b.BaseOffset())
}

// read returns batches, the first of which holds the physical offset. It returns about limit bytes,
// and at least one whole batch (KIP-74). At the end of the log it returns nothing.
func (l *logAt) read(ctx context.Context, physical int64, limit int32) ([]byte, error) {
	got, err := l.one().Fetch(ctx, l.broker, physical, kafkaclient.FetchBounds{Isolation: kafkaclient.ReadUncommitted, MaxBytes: limit, PartitionMaxBytes: limit})
	if err != nil {
		return nil, err
	}
	return got.RecordBatches, nil
}

// offset returns the log start offset (timestamp -2) or the high watermark (-1).
func (l *logAt) offset(ctx context.Context, timestamp int64) (int64, error) {
	got, err := l.one().ListOffset(ctx, l.broker, -1, kafkaclient.ReadUncommitted, timestamp)
	if err != nil {
		return 0, err
	}
	return got.Offset, nil
}

func (l *logAt) one() kafkaclient.OnePartition {
	return kafkaclient.OnePartition{Topic: l.topic, TopicID: l.id, Partition: l.partition, Epoch: kafkaclient.AnyEpoch}
}

// logOf finds the leader of a partition, in the cache or with a Metadata request.
func (f *Facts) logOf(ctx context.Context, topic string, partition int32) (*logAt, error) {
	t := f.leaders.get(topic, f.cfg.Now())
	if t == nil {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &topic
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, f.client)
		if err != nil {
			return nil, fmt.Errorf("could not find the leaders of topic %q at the destination: %w", topic, err)
		}
		if len(resp.Topics) != 1 {
			return nil, fmt.Errorf("the metadata response for topic %q has %d topics", topic, len(resp.Topics))
		}
		if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
			return nil, fmt.Errorf("could not find the leaders of topic %q at the destination: %w", topic, err)
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

// LearnEnd reads the last batch of a log with a client of the destination, and tells the timeline
// of the partition where it ends. now is the clock.
func LearnEnd(ctx context.Context, client *kgo.Client, now func() time.Time, topic string, partition int32, t *timeline.Partition) error {
	f := &Facts{cfg: Config{Now: now}, client: client, maxLook: maxLookBytes}
	return f.LearnOffset(ctx, topic, partition, t, timeline.ProbeEnd)
}
