package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/bench/wire"
)

// Produce requests go to these partitions in turn. Their records are deleted after each run.
const (
	produceTopic      = "bench-produce"
	producePartitions = 16
)

// A topic for fetches holds batches whose size fits its answers: 1 KiB for the smallest answers, 16
// KiB (a producer's default) for all others.
const (
	fetchPartitions = 8
	fetchBatch      = 16 << 10
	fetchFill       = 16 << 20 // bytes per partition
	fetchSmallCount = 2000     // batches per partition of a topic of small ones
)

func batchFor(size int) int { return min(size, fetchBatch) }

func fetchTopic(size int) string { return fmt.Sprintf("bench-fetch-%d", batchFor(size)) }

// prepare fills the topics that a workload reads.
func (b *benchmark) prepare(ctx context.Context, w workload) error {
	switch w.kind {
	case "fetch", "stall":
		return b.fill(ctx, w.fetchSize())
	case "mirror fetch":
		return b.prepareMirror(ctx, w.size)
	}
	return nil
}

// fetchSize returns the size of answers.
func (w workload) fetchSize() int {
	if w.kind == "stall" {
		return 64 << 10
	}
	return w.size
}

// fillEnd returns the end of each partition of a topic for fetches, and its number of batches.
func fillEnd(size int) (end int64, batches int) {
	batches = fetchFill / fetchBatch
	if batchFor(size) < fetchBatch {
		batches = fetchSmallCount
	}
	return int64(batches) * wire.RecordsOf(wire.RecordBatch(batchFor(size), 1)), batches
}

func (b *benchmark) fill(ctx context.Context, size int) error {
	if b.filled[batchFor(size)] {
		return nil
	}
	topic := fetchTopic(size)
	if err := b.world.createTopic(ctx, topic, fetchPartitions); err != nil {
		return err
	}
	if err := fillTopic(ctx, b.world.cluster.Bootstrap(), topic, fetchPartitions, size); err != nil {
		return err
	}
	if b.filled == nil {
		b.filled = map[int]bool{}
	}
	b.filled[batchFor(size)] = true
	return nil
}

// fillTopic appends to all partitions at once, until each ends where [fillEnd] says.
func fillTopic(ctx context.Context, addr, topic string, partitions int32, size int) error {
	end, _ := fillEnd(size)
	errs := make(chan error, partitions)
	for p := range partitions {
		go func() {
			prod, err := wire.NewProducer(ctx, addr, nil, topic, p, wire.RecordBatch(batchFor(size), uint64(p)+1))
			if err != nil {
				errs <- err
				return
			}
			defer prod.Close()
			for prod.Next() < end && err == nil {
				if _, err = prod.Once(); err == nil {
					err = ctx.Err()
				}
			}
			if err == nil && prod.Next() != end {
				err = fmt.Errorf("partition %d of %s ends at %d, not at %d", p, topic, prod.Next(), end)
			}
			errs <- err
		}()
	}
	var err error
	for range partitions {
		err = errors.Join(err, <-errs)
	}
	return err
}

// askers opens the connections of a workload. After an error it returns those that it has opened.
func (b *benchmark) askers(ctx context.Context, s *subject, w workload) (askers []asker, err error) {
	addr, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	if w.kind == "mirror fetch" {
		return b.mirror.askers(ctx, s, addr, w)
	}
	var batch []byte
	if w.kind == "produce" {
		batch = wire.RecordBatch(w.size, 1)
	}
	end, batches := fillEnd(w.fetchSize())
	for i := range w.connections {
		var a asker
		if w.kind == "produce" {
			a, err = wire.NewProducer(ctx, addr, s.client(), produceTopic, int32(i%producePartitions), batch)
		} else {
			// Connections on the same partition start at different offsets.
			from := int64(i*batches/w.connections) * (end / int64(batches))
			a, err = wire.NewFetcher(ctx, addr, s.client(), fetchTopic(w.size), int32(i%fetchPartitions), w.size, 0, end, from)
		}
		if err != nil {
			return askers, err
		}
		askers = append(askers, a)
	}
	return askers, nil
}

// warmUp makes the broker compile its hot paths before anything is measured, without TLS, and with
// TLS if a workload uses it.
func (b *benchmark) warmUp(ctx context.Context, workloads []workload) error {
	length := 2 * time.Second
	if b.Quick {
		length = time.Second
	}
	if err := b.fill(ctx, 64<<10); err != nil {
		return err
	}
	for _, s := range b.world.subjects {
		used := slices.ContainsFunc(workloads, func(w workload) bool { return w.tls == s.tls })
		if s.name != Direct || !used {
			continue
		}
		for _, name := range []string{"produce 64KiB x16", "fetch 64KiB x16"} {
			w, err := parseWorkload(name)
			if err != nil {
				return err
			}
			askers, err := b.askers(ctx, s, w)
			if err == nil {
				_, err = closedLoop(ctx, askers, length)
			}
			closeAll(askers)
			if err != nil {
				return err
			}
		}
	}
	return b.world.empty(ctx, produceTopic, producePartitions)
}
