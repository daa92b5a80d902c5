package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/bench/wire"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// fillLanes is how many connections fill a topic at the same time. A broker handles one request of
// each connection at a time.
const fillLanes = 4

// fill writes a workload's records to the source and returns the content that has to be mirrored.
func fill(ctx context.Context, src *cluster, w *workload, scale float64) (*content, error) {
	if err := src.createTopic(ctx, w.topic(), w.partitions, w.configs()); err != nil {
		return nil, err
	}
	how := fillBatches
	if w.transactions {
		how = fillTransactions
	}
	if err := how(ctx, src.addr, w, scale); err != nil {
		return nil, fmt.Errorf("fill topic %s: %w", w.topic(), err)
	}
	if w.compacted > 0 {
		return awaitCompaction(ctx, src, w, int64(w.partitions*w.perPartition(scale)))
	}
	c, err := scan(ctx, src.addr, w.topic())
	if err != nil {
		return nil, err
	}
	if want := int64(w.partitions * w.perPartition(scale)); !w.transactions && c.records != want {
		return nil, fmt.Errorf("topic %s has %d records after %d were written", w.topic(), c.records, want)
	}
	return c, nil
}

func fillBatches(ctx context.Context, addr string, w *workload, scale float64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, fillLanes)
	for lane := range fillLanes {
		wg.Go(func() {
			list := slices.DeleteFunc(allPartitions(w.partitions), func(p int32) bool { return int(p)%fillLanes != lane })
			if errs[lane] = fillLane(ctx, addr, w, list, w.perPartition(scale)/w.perBatch); errs[lane] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fillRequest is the approximate number of bytes of a fill request.
const fillRequest = 4 << 20

// fillPipeline is how many requests of a lane may be in flight.
const fillPipeline = 16

// fillLane writes the batches of some partitions. A request has one batch of each partition.
func fillLane(ctx context.Context, addr string, w *workload, list []int32, batches int) error {
	if len(list) == 0 {
		return nil
	}
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	sent := make(chan int, fillPipeline) // the number of batches of each unanswered request
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for n := range sent {
			if err := c.ReceiveProduce(w.topic(), n); err != nil {
				c.Close() // so that nothing more is sent
				failed <- err
				for range sent { // so that the sender does not block
				}
				return
			}
		}
	}()
	err = sendBatches(c, w, list, batches, sent)
	close(sent)
	if failure := <-failed; failure != nil {
		err = failure
	}
	c.Close()
	return err
}

// sendBatches sends the requests of a lane.
func sendBatches(c *wire.Conn, w *workload, list []int32, batches int, sent chan<- int) (err error) {
	makers := make([]*batcher, len(list))
	buffers := make([][]byte, len(list))
	for i, p := range list {
		if makers[i], err = newBatcher(w, int(p)); err != nil {
			return err
		}
	}
	keys := w.perPartitionKeys(batches)
	for range batches {
		var parts []wire.Part
		size := 0
		for i, p := range list {
			m := makers[i]
			var key func(int) []byte
			if keys > 0 {
				key = func(int) []byte { return binary.BigEndian.AppendUint64(nil, m.gen.rng.Uint64N(keys)) }
			}
			buffers[i] = m.appendBatch(buffers[i][:0], w.perBatch, key)
			parts = append(parts, wire.Part{Partition: p, Records: buffers[i]})
			if size += len(buffers[i]); size >= fillRequest {
				if err := c.SendProduce(w.topic(), parts); err != nil {
					return err
				}
				sent <- len(parts)
				parts, size = parts[:0], 0
			}
		}
		if len(parts) > 0 {
			if err := c.SendProduce(w.topic(), parts); err != nil {
				return err
			}
			sent <- len(parts)
		}
	}
	return nil
}

// perPartitionKeys returns the number of keys in each partition of a compacted workload; 0 =
// records have no keys.
func (w *workload) perPartitionKeys(batches int) uint64 {
	if w.compacted == 0 {
		return 0
	}
	return uint64(max(1, batches*w.perBatch/w.compacted))
}

const (
	perTransaction = 1000
	// transactionalProducers write at the same time, because ending a transaction takes long.
	transactionalProducers = 4
)

// fillTransactions writes transactions, every tenth of which is aborted. It uses several producers,
// so that their transactions interleave.
func fillTransactions(ctx context.Context, addr string, w *workload, scale float64) error {
	g, ctx := errgroup.WithContext(ctx)
	n := w.partitions * w.perPartition(scale)
	for i := range transactionalProducers {
		g.Go(func() error {
			return fillTransactionsOf(ctx, addr, w, i, n*(i+1)/transactionalProducers-n*i/transactionalProducers)
		})
	}
	return g.Wait()
}

// fillTransactionsOf writes the transactions of one producer one after the other, total records in
// all.
func fillTransactionsOf(ctx context.Context, addr string, w *workload, producer, total int) error {
	var failed atomic.Pointer[error]
	cl, err := kgo.NewClient(seeds(addr), kgo.TransactionalID(fmt.Sprintf("bench-%d", producer)), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond), kgo.DefaultProduceTopic(w.topic()))
	if err != nil {
		return err
	}
	defer cl.Close()
	gen := newGenerator(w, uint64(producer))
	for seq, tx := 0, 0; seq < total; tx++ {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		for range min(perTransaction, total-seq) {
			r := &kgo.Record{
				Partition: int32(seq / 10 % w.partitions), Timestamp: time.UnixMilli(firstTimestamp + int64(tx)),
				Value: gen.appendValue(nil, int64(seq), int64(producer)),
			}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
			seq++
		}
		if err := cl.Flush(ctx); err != nil {
			return err
		}
		if err := failed.Load(); err != nil {
			return *err
		}
		// The last transaction is committed, so that a mirror has to read to the end.
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(tx%10 != 9 || seq >= total)); err != nil {
			return err
		}
	}
	return nil
}

// awaitCompaction waits until the cleaner has nothing more to do. It then makes the compaction lag
// endless, so that cleaners leave the mirrors alone.
func awaitCompaction(ctx context.Context, src *cluster, w *workload, written int64) (*content, error) {
	var before int64 = -1
	same := 0
	for began := time.Now(); ; {
		c, err := scan(ctx, src.addr, w.topic())
		if err != nil {
			return nil, err
		}
		if c.records < written && c.records == before {
			same++
		} else {
			same = 0
		}
		if same == 2 {
			break
		}
		if time.Since(began) > time.Minute {
			return nil, fmt.Errorf("topic %s: not compacted after %v: %d of %d records are left", w.topic(), time.Minute, c.records, written)
		}
		before = c.records
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	if err := src.setConfig(ctx, w.topic(), "min.compaction.lag.ms", "9223372036854775807"); err != nil {
		return nil, err
	}
	select { // a broker applies a config some time after it has taken it
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
	}
	return scan(ctx, src.addr, w.topic())
}
