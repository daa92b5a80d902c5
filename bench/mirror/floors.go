package mirror

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"klink/bench/wire"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// Floor is the work of a hidden command until its context ends: it copies topics in one of the ways
// that bound what is possible.
type Floor struct {
	From   string // addresses of the source
	To     string // addresses of the destination; for the relay, the address of the sink
	Topics []string
	Lz4    bool // produce with lz4; for sources that are compressed
	// PartitionFetch is how many bytes of one partition the copy loop may fetch at once.
	PartitionFetch int
	// Lanes is the number of connections to each broker over which the raw loop produces. A broker
	// handles one request of each connection at a time. But if batches are small, a request should
	// have batches of many partitions.
	Lanes int
}

// Run runs the floor of this name.
func (f *Floor) Run(ctx context.Context, name string) error {
	switch name {
	case Copy:
		return f.copy(ctx)
	case Raw:
		return f.each(ctx, f.raw)
	case Relay:
		return f.each(ctx, f.relay)
	}
	return fmt.Errorf("unknown floor %q", name)
}

// copy is a consumer and a producer of franz-go, the least that any tool built on them has: it
// decodes records and produces them again, in order, with idempotence. It stores no offsets, so it
// does less than a tool has to.
func (f *Floor) copy(ctx context.Context) error {
	in, err := kgo.NewClient(seeds(f.From), kgo.ConsumeTopics(f.Topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(52428800), kgo.FetchMaxPartitionBytes(int32(f.PartitionFetch)), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer in.Close()
	codec := kgo.NoCompression()
	if f.Lz4 {
		codec = kgo.Lz4Compression()
	}
	out, err := kgo.NewClient(seeds(f.To), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(1000012), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(128<<20), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer out.Close()
	failed := make(chan error, 1)
	for ctx.Err() == nil {
		fetches := in.PollRecords(ctx, 20_000)
		if err := fetches.Err0(); err != nil {
			return ended(ctx, err)
		}
		fetches.EachError(func(topic string, p int32, err error) {
			select {
			case failed <- fmt.Errorf("fetch %s-%d: %w", topic, p, err):
			default:
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			out.Produce(ctx, r, func(r *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- fmt.Errorf("produce to %s-%d: %w", r.Topic, r.Partition, err):
					default:
					}
				}
			})
		})
		select {
		case err := <-failed:
			return ended(ctx, err)
		default:
		}
	}
	return nil
}

// each runs a floor for each topic.
func (f *Floor) each(ctx context.Context, floor func(context.Context, string, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, topic := range f.Topics {
		_, n, err := wire.Leaders(ctx, f.From, topic)
		if err != nil {
			return ended(ctx, err)
		}
		g.Go(func() error { return floor(ctx, topic, n) })
	}
	return ended(ctx, g.Wait())
}

// rawBytes is the size in bytes at which a request of a raw loop is full.
const rawBytes = 4 << 20

// raw appends the fetched batches to the destination unchanged and unread. It is the most that a
// program can do that keeps batches: one batch per partition in a request, several requests at the
// same time.
func (f *Floor) raw(ctx context.Context, topic string, partitions int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := startFetcher(ctx, f.From, topic, allPartitions(partitions), make([]int64, partitions), nil, false)
	if err != nil {
		return err
	}
	leaders, _, err := wire.Leaders(ctx, f.To, topic)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	var lanes []*rawLane
	laneOf := make([]*rawLane, partitions)
	for _, leader := range leaders {
		own := make([]*rawLane, min(max(1, f.Lanes), len(leader.Partitions)))
		for i := range own {
			l := &rawLane{topic: topic, queue: make([][]rawBatch, partitions), kick: make(chan struct{}, 1)}
			own[i] = l
			c, err := dial(ctx, leader.Addr)
			if err != nil {
				return err
			}
			g.Go(func() error { return l.run(ctx, c) })
		}
		for i, p := range leader.Partitions {
			laneOf[p] = own[i%len(own)]
		}
		lanes = append(lanes, own...)
	}
	g.Go(func() error {
		for fr := range in.frames {
			// The fetch in flight counts as one use, and each batch as another.
			uses := &rawUses{frame: fr}
			uses.left.Store(1)
			err := fr.each(func(p *kmsg.FetchResponseTopicPartition) error {
				l := laneOf[p.Partition]
				l.mu.Lock()
				defer l.mu.Unlock()
				w := batch.Walk(p.RecordBatches)
				for w.Next() {
					b := w.Batch()
					b.SetBaseOffset(0)
					uses.left.Add(1)
					l.queue[p.Partition] = append(l.queue[p.Partition], rawBatch{b, uses})
				}
				return w.Err()
			})
			if err != nil {
				return err
			}
			uses.done()
			for _, l := range lanes {
				l.wake()
			}
		}
		return in.err
	})
	return g.Wait()
}

// rawUses counts the uses of a frame that are still pending.
type rawUses struct {
	frame *frame
	left  atomic.Int32
}

func (u *rawUses) done() {
	if u.left.Add(-1) == 0 {
		u.frame.release()
	}
}

type rawBatch struct {
	b    batch.Header
	uses *rawUses
}

// rawLane is a connection to the destination, with the partitions that it serves.
type rawLane struct {
	topic string
	kick  chan struct{}
	mu    sync.Mutex
	queue [][]rawBatch // by partition
	first int          // rotates
}

func (l *rawLane) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// rawPipeline is how many requests of a lane may be in flight. The broker answers them in order. It
// appends the next one as soon as it has answered one, without a round trip in between.
const rawPipeline = 4

// rawRequest is a request that the broker has not answered yet.
type rawRequest struct{ uses []*rawUses }

func (l *rawLane) run(ctx context.Context, c *wire.Conn) error {
	defer c.Close()
	g, ctx := errgroup.WithContext(ctx)
	free, sent := make(chan *rawRequest, rawPipeline), make(chan *rawRequest, rawPipeline)
	for range rawPipeline {
		free <- &rawRequest{}
	}
	g.Go(func() error {
		for {
			select {
			case r := <-sent:
				if err := c.ReceiveProduce(l.topic, len(r.uses)); err != nil {
					return err
				}
				for _, u := range r.uses {
					u.done()
				}
				free <- r
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	g.Go(func() error {
		var parts []wire.Part
		for {
			select {
			case r := <-free:
				for {
					if parts, r.uses = l.take(parts[:0], r.uses[:0]); len(parts) > 0 {
						break
					}
					select {
					case <-l.kick:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				if err := c.SendProduce(l.topic, parts); err != nil {
					return err
				}
				sent <- r
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return g.Wait()
}

// take removes the next batch of each partition that has one from the queue, until the request is
// full.
func (l *rawLane) take(parts []wire.Part, uses []*rawUses) ([]wire.Part, []*rawUses) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	l.first++
	for i := range l.queue {
		p := (i + l.first) % len(l.queue)
		q := l.queue[p]
		if len(q) == 0 {
			continue
		}
		parts, uses = append(parts, wire.Part{Partition: int32(p), Records: q[0].b}), append(uses, q[0].uses)
		if l.queue[p] = q[1:]; len(q) == 1 {
			l.queue[p] = nil
		}
		if size += len(q[0].b); size >= rawBytes {
			break
		}
	}
	return parts, uses
}

// relay writes the fetched batches to a socket: the bare cost of reading and writing.
func (f *Floor) relay(ctx context.Context, topic string, partitions int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", f.To)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	in, err := startFetcher(ctx, f.From, topic, allPartitions(partitions), make([]int64, partitions), nil, false)
	if err != nil {
		return err
	}
	for fr := range in.frames {
		var pieces net.Buffers
		if err := fr.each(func(p *kmsg.FetchResponseTopicPartition) error {
			pieces = append(pieces, p.RecordBatches)
			return nil
		}); err != nil {
			return err
		}
		if _, err := pieces.WriteTo(c); err != nil {
			return err
		}
		fr.release()
	}
	return in.err
}

// sink takes bytes and counts them.
type sink struct {
	ln    net.Listener
	bytes atomic.Int64
	wg    sync.WaitGroup
}

func newSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{ln: ln}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 1<<20)
				for {
					n, err := c.Read(buf)
					s.bytes.Add(int64(n))
					if err != nil {
						return // io.EOF, or the relay was killed
					}
				}
			})
		}
	})
	return s, nil
}

func (s *sink) addr() string { return s.ln.Addr().String() }

// close closes the sink. Its relay must have ended.
func (s *sink) close() {
	s.ln.Close()
	s.wg.Wait()
}
