package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// opTimeout bounds an operation that a working cluster finishes in a moment.
const opTimeout = 60 * time.Second

// CreateTopic creates a topic and waits until each partition has a leader. A replication factor of
// -1 is the broker's default; 2.4.1 accepts that too.
func CreateTopic(t testing.TB, cl *kgo.Client, topic string, partitions int32, replication int16, configs map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opTimeout)
	defer cancel()
	values := make(map[string]*string, len(configs))
	for k, v := range configs {
		values[k] = &v
	}
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, partitions, replication, values, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	WaitFor(t, opTimeout, "leaders of topic "+topic, func() (bool, string) {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		detail := topics[topic]
		if detail.Err != nil {
			return false, detail.Err.Error()
		}
		led := 0
		for _, p := range detail.Partitions {
			if p.Err == nil && p.Leader >= 0 {
				led++
			}
		}
		return led == int(partitions), fmt.Sprintf("%d of %d", led, partitions)
	})
}

// Produce appends records to one partition, in order, waits for their acknowledgement, and sets the
// offset and timestamp of the records. The client must partition by hand, as those of
// [Cluster.Client] do.
func Produce(t testing.TB, cl *kgo.Client, topic string, partition int32, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opTimeout)
	defer cancel()
	for _, r := range records {
		r.Topic, r.Partition = topic, partition
	}
	for _, res := range cl.ProduceSync(ctx, records...) {
		if res.Err != nil {
			t.Fatalf("produce to %s-%d: %v", topic, partition, res.Err)
		}
		if res.Record.Partition != partition {
			t.Fatalf("produce to %s-%d went to partition %d: the client needs kgo.RecordPartitioner(kgo.ManualPartitioner())",
				topic, partition, res.Record.Partition)
		}
	}
}

// Records makes n records with keys k0, k1, ..., a header, and different values of at least the
// given size.
func Records(n, size int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{
			Key:     fmt.Appendf(nil, "k%d", i),
			Value:   fmt.Appendf(nil, "%0*d", max(size, 1), i),
			Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}},
		}
	}
	return out
}

// DeleteRecordsBefore moves the log start offset of a partition up to an offset.
func DeleteRecordsBefore(t testing.TB, cl *kgo.Client, topic string, partition int32, offset int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opTimeout)
	defer cancel()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1})
	resp, err := kadm.NewClient(cl).DeleteRecords(ctx, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		t.Fatalf("delete records of %s-%d before %d: %v", topic, partition, offset, err)
	}
}

// ReadAll reads a topic from its log start offsets to its current ends, with a client of its own
// that it makes with the options. The records of a partition are in order; the partitions follow
// one another.
func ReadAll(t testing.TB, topic string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opTimeout)
	defer cancel()
	r := newReader(ctx, t, topic, opts)
	defer r.cl.Close()
	for !r.done() {
		before := r.read
		r.poll(ctx, t)
		if ctx.Err() != nil {
			t.Fatalf("read %s: %d records after %v; next offsets %v, ends %v, last error: %v",
				topic, r.read, opTimeout, r.next, r.end, r.lastErr)
		}
		if r.read == before {
			r.skipTrailingHoles(ctx, t)
		}
	}
	var out []*kgo.Record
	for p := range int32(len(r.end)) {
		out = append(out, r.records[p]...)
	}
	return out
}

// ReadAll calls the function of this name for this cluster.
func (c *Cluster) ReadAll(t testing.TB, topic string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	all := append([]kgo.Opt{kgo.SeedBrokers(c.seeds()...)}, c.superOpts()...)
	return ReadAll(t, topic, append(all, opts...)...)
}

type reader struct {
	cl      *kgo.Client
	topic   string
	detail  kadm.TopicDetail
	next    map[int32]int64
	end     map[int32]int64
	records map[int32][]*kgo.Record
	read    int
	lastErr error
}

func newReader(ctx context.Context, t testing.TB, topic string, opts []kgo.Opt) *reader {
	t.Helper()
	opts = append(opts[:len(opts):len(opts)],
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{cl: cl, topic: topic, next: map[int32]int64{}, end: map[int32]int64{}, records: map[int32][]*kgo.Record{}}
	adm := kadm.NewClient(cl)
	var start, end kadm.ListedOffsets
	retry(ctx, t, "read "+topic, func() error {
		topics, err := adm.ListTopics(ctx, topic)
		if err = errors.Join(err, topics.Error()); err != nil {
			return err
		}
		r.detail = topics[topic]
		if start, err = adm.ListStartOffsets(ctx, topic); err != nil || start.Error() != nil {
			return errors.Join(err, start.Error())
		}
		end, err = adm.ListEndOffsets(ctx, topic)
		return errors.Join(err, end.Error())
	})
	start.Each(func(o kadm.ListedOffset) { r.next[o.Partition] = o.Offset })
	end.Each(func(o kadm.ListedOffset) { r.end[o.Partition] = o.Offset })
	return r
}

// retry repeats op, for example while a cluster elects leaders. When the context ends, it fails the
// test with the last error.
func retry(ctx context.Context, t testing.TB, what string, op func() error) {
	t.Helper()
	for {
		err := op()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *reader) done() bool {
	for p, end := range r.end {
		if r.next[p] < end {
			return false
		}
	}
	return true
}

func (r *reader) poll(ctx context.Context, t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	fetches := r.cl.PollFetches(ctx)
	fetches.EachError(func(_ string, p int32, err error) {
		if ctx.Err() != nil {
			return
		}
		var refusal *kerr.Error
		if errors.As(err, &refusal) && !refusal.Retriable {
			t.Fatalf("read %s-%d: %v", r.topic, p, err)
		}
		r.lastErr = err // for example of a connection; the client retries by itself
	})
	fetches.EachRecord(func(rec *kgo.Record) {
		p := rec.Partition
		if rec.Offset < r.next[p] {
			t.Fatalf("read %s-%d: offset %d after %d", r.topic, p, rec.Offset, r.next[p]-1)
		}
		if rec.Offset >= r.end[p] {
			return
		}
		r.next[p] = rec.Offset + 1
		r.read++
		if !rec.Attrs.IsControl() {
			r.records[p] = append(r.records[p], rec)
		}
	})
}

// skipTrailingHoles finishes partitions whose last offsets hold no record (compacted away, or a
// hole of a mirror). There a fetch returns nothing, while a broker that has data always sends at
// least one batch (KIP-74).
func (r *reader) skipTrailingHoles(ctx context.Context, t testing.TB) {
	t.Helper()
	for p, next := range r.next {
		if next >= r.end[p] {
			continue
		}
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MinBytes, req.MaxWaitMillis = 1<<20, 0, 0
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = r.topic, [16]byte(r.detail.ID)
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, next, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := r.cl.Broker(int(r.detail.Partitions[p].Leader)).Request(ctx, req)
		if err != nil {
			continue // the next round polls again
		}
		fetch := resp.(*kmsg.FetchResponse)
		if len(fetch.Topics) != 1 || len(fetch.Topics[0].Partitions) != 1 {
			continue
		}
		got := fetch.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err == nil && len(got.RecordBatches) == 0 {
			r.next[p] = r.end[p]
		}
	}
}
