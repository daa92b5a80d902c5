package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/bench/wire"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// fetchVersion is the last version of Fetch without tags. Every broker from 2.4 to 4.x knows it.
	fetchVersion      = 11
	fetchMaxBytes     = 16 << 20
	fetchPartitionMax = 4 << 20
	// framesInFlight is how many responses of a fetcher may exist at a time: one is read while
	// others are used.
	framesInFlight = 3
)

// frame is a fetch response in a buffer that is reused after release.
type frame struct {
	resp kmsg.FetchResponse
	buf  []byte
	free chan<- *frame
}

// release returns the buffer. The response must not be used afterwards.
func (f *frame) release() { f.free <- f }

// fetcher reads partitions of one topic at one broker, with one fetch in flight while earlier
// frames are used. It parses batches only as far as it needs to know the next offset.
type fetcher struct {
	topic     string
	next      []int64 // by partition; unused for partitions that are not fetched
	end       []int64 // where to stop; nil = never
	committed bool    // isolation level: read_committed
	list      []int32 // partitions
	first     int     // rotates, so that the broker does not always serve the same partition last
	frames    chan *frame
	free      chan *frame
	err       error // valid once frames is closed
}

// startFetcher fetches the partitions in list, from the offsets in next up to the ends (nil = until
// the context ends). Frames come until the channel is closed; err then says why.
func startFetcher(ctx context.Context, addr, topic string, list []int32, next, end []int64, committed bool) (*fetcher, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	f := &fetcher{topic: topic, next: next, end: end, committed: committed, list: list, frames: make(chan *frame), free: make(chan *frame, framesInFlight)}
	for range framesInFlight {
		f.free <- &frame{free: f.free}
	}
	go func() {
		defer close(f.frames)
		defer c.Close()
		f.err = f.run(ctx, c)
		if ctx.Err() != nil {
			f.err = ctx.Err()
		}
	}()
	return f, nil
}

func (f *fetcher) run(ctx context.Context, c *wire.Conn) error {
	idle := time.Now()
	for {
		var fr *frame
		select {
		case fr = <-f.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		sent, err := f.send(c)
		if err != nil || !sent {
			return err
		}
		var body []byte
		if body, fr.buf, err = c.Receive(fr.buf); err != nil {
			return err
		}
		fr.resp = kmsg.FetchResponse{Version: fetchVersion}
		if err := fr.resp.ReadFrom(body); err != nil {
			return err
		}
		moved, err := f.advance(&fr.resp)
		if err != nil {
			return err
		}
		if !moved {
			if f.end != nil && time.Since(idle) > wireTimeout {
				return fmt.Errorf("nothing more of topic %s within %v", f.topic, wireTimeout)
			}
			f.free <- fr
			continue
		}
		idle = time.Now()
		select {
		case f.frames <- fr:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send asks for all partitions that are not at their end. It returns false if there are none.
func (f *fetcher) send(c *wire.Conn) (bool, error) {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID = fetchVersion, -1
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, fetchMaxBytes, -1
	if f.committed {
		req.IsolationLevel = 1
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.topic
	t.Partitions = make([]kmsg.FetchRequestTopicPartition, 0, len(f.list))
	f.first++
	for i := range f.list {
		p := f.list[(i+f.first)%len(f.list)]
		if f.end != nil && f.next[p] >= f.end[p] {
			continue
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.FetchOffset, rp.PartitionMaxBytes = p, -1, f.next[p], fetchPartitionMax
		t.Partitions = append(t.Partitions, rp)
	}
	if len(t.Partitions) == 0 {
		return false, nil
	}
	req.Topics = append(req.Topics, t)
	return true, c.Send(req)
}

// advance moves the next offsets behind the whole batches of the response, and cuts off the bytes
// behind those batches.
func (f *fetcher) advance(resp *kmsg.FetchResponse) (moved bool, err error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return false, err
	}
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[k]
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return false, fmt.Errorf("fetch %s-%d at %d: %w", f.topic, p.Partition, f.next[p.Partition], err)
			}
			w := batch.Walk(p.RecordBatches)
			for w.Next() {
				f.next[p.Partition] = w.Batch().NextOffset()
				moved = true
			}
			if err := w.Err(); err != nil {
				return false, err
			}
			if cut, want := w.Cut(); cut > 0 && cut == len(p.RecordBatches) {
				return false, fmt.Errorf("fetch %s-%d: a batch of %d bytes came as %d", f.topic, p.Partition, want, cut)
			} else if cut > 0 {
				p.RecordBatches = p.RecordBatches[:len(p.RecordBatches)-cut]
			}
		}
	}
	return moved, nil
}

// each yields the partitions of a response that have batches.
func (fr *frame) each(yield func(*kmsg.FetchResponseTopicPartition) error) error {
	for i := range fr.resp.Topics {
		for k := range fr.resp.Topics[i].Partitions {
			if p := &fr.resp.Topics[i].Partitions[k]; len(p.RecordBatches) > 0 {
				if err := yield(p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ended returns nil if the error is only that the program was told to stop, else err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
