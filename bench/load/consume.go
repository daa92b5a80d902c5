package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer reads partitions and passes their records to the verifier.
type consumer struct {
	*run
	client  *kgo.Client
	latency *recorder
}

// fetchBytes bounds the bytes, before decompression, that a consumer holds of one broker at a time.
const fetchBytes = 16 << 20

// newConsumer makes the consumer that reads every partition whose number modulo the number of
// consumers is id.
func (r *run) newConsumer(id int) (*consumer, error) {
	from := map[int32]kgo.Offset{}
	for p := id; p < len(r.Starts); p += r.Consumers {
		from[int32(p)] = kgo.NewOffset().At(r.Starts[p])
	}
	// Keep control records, so that the transactions of others leave no holes.
	client, err := r.Read(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(max(1<<20, int32(r.RecordSize))), kgo.MaxConcurrentFetches(2),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.ClientID(fmt.Sprintf("klink-bench-consumer-%d", id)),
	)
	if err != nil {
		return nil, err
	}
	return &consumer{run: r, client: client, latency: r.meter.reads[id]}, nil
}

// read reads until ctx ends.
func (c *consumer) read(ctx context.Context) {
	for {
		fetches := c.client.PollRecords(ctx, 10_000)
		if fetches.IsClientClosed() || ctx.Err() != nil {
			return
		}
		now := c.since()
		fetches.EachError(func(_ string, partition int32, err error) {
			c.errors.note(fmt.Sprintf("read partition %d: %v", partition, err))
			if errors.As(err, new(*kgo.ErrDataLoss)) || !retriable(err) {
				c.unread.Store(true)
				c.fail(fmt.Errorf("read topic %q partition %d: %w", c.Topic, partition, err))
			}
		})
		for it := fetches.RecordIter(); !it.Done(); {
			c.one(it.Next(), now)
		}
	}
}

func (c *consumer) one(r *kgo.Record, now time.Duration) {
	if r.Attrs.IsControl() {
		c.verifier.control(r.Partition, r.Offset)
		return
	}
	timestamp := int64(-1)
	if r.Attrs.TimestampType() == 0 {
		timestamp = r.Timestamp.UnixMilli()
	}
	intended, mine := c.verifier.read(r.Partition, r.Offset, timestamp, r.Value)
	if !mine {
		return
	}
	c.latency.record(now - time.Duration(intended-c.began.UnixNano()))
	c.meter.read.Add(1)
	c.meter.readBytes.Add(int64(len(r.Value)))
}
