package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"
)

// bufferedBytes is the number of bytes that all producers together may buffer: Kafka's default of
// buffer.memory.
const bufferedBytes = 32 << 20

// producer sends the records of a schedule. Like Kafka's producer it stays with a partition until a
// batch is full or the linger time has passed.
type producer struct {
	*run
	id       uint32
	client   *kgo.Client
	payloads *payloads
	latency  *recorder
	slots    *semaphore.Weighted // records that may be in flight
	records  sync.Pool           // of *kgo.Record

	partition  int
	stuckBytes int           // sent to partition since it was chosen
	stuckSince time.Duration // the time at which the first of them was due
}

func (r *run) newProducer(id int, p *payloads) (*producer, error) {
	perProducer := max(1, bufferedBytes/r.Producers/(r.RecordSize+128))
	client, err := r.Write(r.writeOptions(id, perProducer)...)
	if err != nil {
		return nil, err
	}
	return &producer{
		run: r, id: uint32(id), client: client, payloads: p, latency: r.meter.acks[id], slots: semaphore.NewWeighted(int64(perProducer)),
		partition: id % len(r.Starts), records: sync.Pool{New: func() any { return &kgo.Record{Value: make([]byte, r.RecordSize)} }},
	}, nil
}

// writeOptions returns the client options of a producer. It is idempotent if acks=all, like
// Kafka's.
func (r *run) writeOptions(id, buffered int) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(r.Linger), kgo.ProducerBatchCompression(r.Compression),
		kgo.ProducerBatchMaxBytes(int32(max(r.BatchSize, r.RecordSize+512))), kgo.MaxBufferedRecords(buffered + 1),
		kgo.RecordDeliveryTimeout(r.DeliveryTimeout), kgo.RequiredAcks(r.Acks), kgo.ClientID(fmt.Sprintf("klink-bench-producer-%d", id)),
	}
	if r.Acks != kgo.AllISRAcks() {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return opts
}

// send sends until ctx ends, and does not wait for records in flight. At a fixed rate it returns
// the number of records that were due by the end and that it has not sent.
func (p *producer) send(ctx context.Context) (behind uint64) {
	s := schedule{rate: p.Rate, producers: p.Producers, producer: int(p.id)}
	k, end := uint64(0), p.Warmup+p.Duration
	for ; ctx.Err() == nil; k++ {
		at := p.since()
		if p.Rate > 0 {
			at = s.at(k)
			if at >= end || !p.sleepUntil(ctx, at) {
				break
			}
		}
		if p.slots.Acquire(ctx, 1) != nil {
			break
		}
		p.one(at, k)
	}
	if all := s.within(min(p.since(), end)); p.Rate > 0 && all > k {
		return all - k
	}
	return 0
}

func (p *producer) one(at time.Duration, k uint64) {
	if p.stuckBytes+p.RecordSize > p.BatchSize || at-p.stuckSince >= p.Linger {
		p.partition, p.stuckBytes, p.stuckSince = (p.partition+1)%len(p.Starts), 0, at
	}
	p.stuckBytes += p.RecordSize
	w := &p.ledgers[p.partition].perProducer[p.id]
	h := header{run: p.Run, producer: p.id, partition: uint32(p.partition), sequence: w.next, intended: p.began.UnixNano() + int64(at)}
	w.next++

	r := p.records.Get().(*kgo.Record)
	p.payloads.fill(r.Value[MinRecordSize:], k)
	h.seal(r.Value)
	r.Topic, r.Partition, r.Timestamp = p.Topic, int32(p.partition), time.Unix(0, h.intended)
	p.meter.sent.Add(1)
	p.meter.sentBytes.Add(int64(len(r.Value)))
	p.client.Produce(context.Background(), r, p.done)
}

// done is the promise of each record. For one partition the client calls it in the order of
// sending.
func (p *producer) done(r *kgo.Record, err error) {
	defer p.slots.Release(1)
	h, _, _ := parse(r.Value)
	l := p.ledgers[h.partition]
	if err != nil {
		// Do not reuse the record: a request with it may still be in flight.
		l.perProducer[p.id].failed.add(h.sequence, h.sequence, -1)
		p.meter.failed.Add(1)
		p.failed(r, err)
		return
	}
	p.latency.record(p.since() - time.Duration(h.intended-p.began.UnixNano()))
	l.sum.Add(place(r.Offset, h.producer, h.sequence))
	l.acked.Add(1)
	p.meter.acked.Add(1)
	p.records.Put(&kgo.Record{Value: r.Value})
}

// failed notes an error, and ends the run if the cluster will not accept other records either.
func (p *producer) failed(r *kgo.Record, err error) {
	p.errors.note(fmt.Sprintf("write to partition %d: %v", r.Partition, err))
	var code *kerr.Error
	if errors.As(err, &code) && !code.Retriable && code.Code != kerr.InvalidProducerEpoch.Code {
		p.fail(&Refused{Record: r, Err: err})
	}
}

// Refused is a record that the cluster rejected with an error that is not retriable.
type Refused struct {
	Record *kgo.Record
	Err    error
}

func (e *Refused) Error() string { return e.Err.Error() }
func (e *Refused) Unwrap() error { return e.Err }

// flush waits for the records in flight, and gives up those that are not acknowledged in time.
func (p *producer) flush(ctx context.Context) {
	if p.client.Flush(ctx) != nil {
		_ = p.client.AbortBufferedRecords(context.WithoutCancel(ctx))
	}
}
