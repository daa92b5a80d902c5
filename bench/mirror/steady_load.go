package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"klink/bench/wire"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// load writes records at a fixed rate and stamps each with the time at which it was due, whether or
// not the cluster kept up. It writes with a linger of 5 ms, the default of Java's producers since
// 4.0, or each record as a batch of its own.
type load struct {
	cl      *kgo.Client
	singles []*singles // instead of cl
	gen     *generator
	topic   string
	parts   int
	rate    int
	began   time.Time
	sent    int64
	from    time.Time // acknowledgements of records that were due earlier do not count
	mu      sync.Mutex
	acks    *hdrhistogram.Histogram
	acked   []time.Time // by the number of a record
	failure atomic.Pointer[error]
}

func newLoad(ctx context.Context, addr string, w *workload, topic string, length time.Duration) (*load, error) {
	l := &load{gen: newGenerator(w, 99), topic: topic, parts: w.partitions, rate: w.rate, acks: hdrhistogram.New(1, largestLag, 3)}
	l.acked = make([]time.Time, int64(float64(w.rate)*length.Seconds()))
	if w.singles {
		for range singlesLanes {
			c, err := dial(ctx, addr)
			if err != nil {
				l.close()
				return nil, err
			}
			l.singles = append(l.singles, &singles{c: c})
		}
		return l, nil
	}
	codec := kgo.NoCompression()
	if w.lz4 {
		codec = kgo.Lz4Compression()
	}
	var err error
	l.cl, err = kgo.NewClient(seeds(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(1_000_000), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.DefaultProduceTopic(topic), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	if err := l.cl.Ping(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *load) close() {
	if l.cl != nil {
		l.cl.Close()
	}
	for _, s := range l.singles {
		s.c.Close()
	}
}

// ack counts a record that was due at a time and is acknowledged now.
func (l *load) ack(seq int64, due time.Time) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[seq] = now
	if !due.Before(l.from) {
		_ = l.acks.RecordValue(min(max(int64(now.Sub(due)/time.Microsecond), 1), largestLag))
	}
}

// run writes for the duration of the load. Every millisecond it writes the records that are due, so
// that it wakes seldom enough on a busy machine.
func (l *load) run(ctx context.Context) error {
	l.began = time.Now()
	total := int64(len(l.acked))
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range l.singles {
		s.sent = make(chan single, total)
		g.Go(func() error { return s.receive(l) })
	}
	sent := sync.OnceFunc(func() {
		for _, s := range l.singles {
			close(s.sent)
		}
	})
	defer sent()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.sent < total {
		due := min(total, int64(time.Since(l.began).Seconds()*float64(l.rate)))
		for ; l.sent < due; l.sent++ {
			at := l.began.Add(time.Duration(float64(l.sent) / float64(l.rate) * 1e9))
			p, seq := int32(l.sent%int64(l.parts)), l.sent
			value := l.gen.appendValue(make([]byte, 0, l.gen.size+16), at.UnixNano(), seq)
			if len(l.singles) > 0 {
				if err := l.singles[seq%int64(len(l.singles))].send(l.topic, p, single{seq, at}, value); err != nil {
					return fmt.Errorf("write to the source: %w", errors.Join(err, context.Cause(gctx)))
				}
				continue
			}
			l.cl.Produce(ctx, &kgo.Record{Partition: p, Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					l.failure.CompareAndSwap(nil, &err)
				}
				l.ack(seq, at)
			})
		}
		select {
		case <-gctx.Done():
			if err := context.Cause(gctx); ctx.Err() == nil {
				return fmt.Errorf("write to the source: %w", err)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
	sent()
	if err := g.Wait(); err != nil {
		return fmt.Errorf("write to the source: %w", err)
	}
	if l.cl == nil {
		return nil
	}
	if err := l.cl.Flush(ctx); err != nil {
		return err
	}
	if err := l.failure.Load(); err != nil {
		return fmt.Errorf("write to the source: %w", *err)
	}
	return nil
}

// singlesLanes is the number of connections that write single records. A broker handles one request
// of each connection at a time.
const singlesLanes = 4

// singles writes records, each in a batch and a request of its own, without waiting for answers in
// between.
type singles struct {
	c     *wire.Conn
	sent  chan single // sent and not yet answered
	batch []byte      // reused
	body  []byte
}

// single is a record on its way.
type single struct {
	seq int64
	due time.Time
}

func (s *singles) send(topic string, partition int32, r single, value []byte) error {
	s.body = appendRecord(s.body[:0], 0, nil, value)
	s.batch = appendBatchOf(s.batch[:0], 1, r.due.UnixMilli(), 0, s.body)
	s.sent <- r // the channel has room for all records
	return s.c.SendProduce(topic, []wire.Part{{Partition: partition, Records: s.batch}})
}

// receive reads the answers until the last record is answered.
func (s *singles) receive(l *load) error {
	for r := range s.sent {
		if err := s.c.ReceiveProduce(l.topic, 1); err != nil {
			return err
		}
		l.ack(r.seq, r.due)
	}
	return nil
}
