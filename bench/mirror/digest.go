package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"klink/bench/wire"
	"klink/protocol/batch"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// digest summarizes what a reader gets from a partition: the number of records, and a checksum over
// the timestamp, key, value and headers of all of them, in order. The checksum does not depend on
// batches and offsets, because only klink keeps these. Two partitions with the same records have
// the same digest. A missing, doubled, changed or moved record changes it.
type digest struct {
	records int64
	sum     uint64
}

// content describes what a topic holds.
type content struct {
	parts   []digest
	records int64
	batches int64
	bytes   int64 // size of the record batches that a reader is shown, as stored
	ends    []int64
}

// digester computes the digest of a partition from its batches, in order.
type digester struct {
	most    int64 // the number of records after which it stops
	hash    *xxhash.Digest
	records int64
	batches int64
	bytes   int64
	aborted batch.Aborted
	list    []batch.AbortedTransaction
}

func newDigester() *digester { return &digester{hash: xxhash.New(), most: math.MaxInt64} }

// decompressor is safe for use by several goroutines.
var decompressor = kgo.DefaultDecompressor()

// response adds the batches of a read_committed response.
func (d *digester) response(p *kmsg.FetchResponseTopicPartition) error {
	d.list = d.list[:0]
	for _, a := range p.AbortedTransactions {
		d.list = append(d.list, batch.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
	}
	d.aborted.Reset(d.list)
	w := batch.Walk(p.RecordBatches)
	for w.Next() {
		b := w.Batch()
		drop, err := d.aborted.Drop(b)
		if err != nil {
			return err
		}
		if drop {
			continue
		}
		if err := d.batch(b); err != nil {
			return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
		}
	}
	return w.Err()
}

var errRecords = errors.New("its records cannot be read")

func (d *digester) batch(b batch.Header) error {
	if !batch.VerifyCRC(b) {
		return errors.New("wrong checksum")
	}
	records := []byte(b[batch.HeaderSize:])
	if b.Codec() != 0 {
		var err error
		if records, err = decompressor.Decompress(records, kgo.CompressionCodecType(b.Codec())); err != nil {
			return err
		}
	}
	d.batches++
	d.bytes += int64(len(b))
	base, appendTime := b.BaseTimestamp(), b.LogAppendTime()
	var when [8]byte
	for n := b.Count(); n > 0; n-- {
		if d.records == d.most {
			return nil
		}
		size, at := binary.Varint(records)
		if at <= 0 || size < 1 || size > int64(len(records)-at) {
			return errRecords
		}
		body := records[at : at+int(size)]
		records = records[at+int(size):]
		delta, k := binary.Varint(body[1:]) // the timestamp delta, behind the attributes
		if k <= 0 {
			return errRecords
		}
		body = body[1+k:]
		if _, k = binary.Varint(body); k <= 0 { // offset delta
			return errRecords
		}
		timestamp := base + delta
		if appendTime {
			timestamp = b.MaxTimestamp()
		}
		binary.BigEndian.PutUint64(when[:], uint64(timestamp))
		_, _ = d.hash.Write(when[:])
		// Key, value and headers follow their lengths, so different contents have different bytes.
		_, _ = d.hash.Write(body[k:])
		d.records++
	}
	if len(records) != 0 {
		return errRecords
	}
	return nil
}

func (d *digester) digest() digest { return digest{d.records, d.hash.Sum64()} }

// scanners is the number of connections that read a topic of one broker at the same time.
const scanners = 2

// scan reads a topic from its start to its current ends, as a read_committed consumer.
func scan(ctx context.Context, addr, topic string) (*content, error) {
	return scanFirst(ctx, addr, topic, nil)
}

// scanFirst is scan for only the first records of each partition, as many as first says; nil = all.
// The offsets must have no holes.
func scanFirst(ctx context.Context, addr, topic string, first []int64) (*content, error) {
	leaders, n, err := wire.Leaders(ctx, addr, topic)
	if err != nil {
		return nil, err
	}
	out := &content{parts: make([]digest, n), ends: make([]int64, n)}
	if err := endsOf(ctx, leaders, topic, out.ends); err != nil {
		return nil, err
	}
	digesters := make([]*digester, n)
	for p := range digesters {
		digesters[p] = newDigester()
		if first != nil {
			out.ends[p] = min(out.ends[p], first[p])
			digesters[p].most = out.ends[p]
		}
	}
	next := make([]int64, n)
	lanes := 1
	if len(leaders) == 1 {
		lanes = scanners
	}
	errs := make([]error, lanes*len(leaders))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			l := leaders[i/lanes]
			var list []int32
			for k, p := range l.Partitions {
				if k%lanes == i%lanes {
					list = append(list, p)
				}
			}
			errs[i] = scanPart(ctx, l.Addr, topic, list, next, out.ends, digesters)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read topic %s at %s: %w", topic, addr, err)
	}
	for p, d := range digesters {
		out.parts[p] = d.digest()
		out.records += d.records
		out.batches += d.batches
		out.bytes += d.bytes
	}
	return out, nil
}

// endsOf asks the leaders of all partitions for their ends.
func endsOf(ctx context.Context, leaders []wire.Leader, topic string, to []int64) error {
	for _, l := range leaders {
		c, err := dial(ctx, l.Addr)
		if err != nil {
			return err
		}
		err = c.Ends(topic, l.Partitions, to)
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func scanPart(ctx context.Context, addr, topic string, list []int32, next, ends []int64, to []*digester) error {
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := startFetcher(ctx, addr, topic, list, next, ends, true)
	if err != nil {
		return err
	}
	for fr := range f.frames {
		err := fr.each(func(p *kmsg.FetchResponseTopicPartition) error { return to[p.Partition].response(p) })
		if err != nil {
			return err
		}
		fr.release()
	}
	return f.err
}

// compare returns an error that says how the mirrored records differ from the source's, nil if they
// do not.
func compare(source, mirrored *content) error {
	if len(source.parts) != len(mirrored.parts) {
		return fmt.Errorf("the destination has %d partitions, the source %d", len(mirrored.parts), len(source.parts))
	}
	for p, want := range source.parts {
		switch got := mirrored.parts[p]; {
		case got.records < want.records:
			return fmt.Errorf("partition %d: %d of the source's %d records are missing", p, want.records-got.records, want.records)
		case got.records > want.records:
			return fmt.Errorf("partition %d: %d records more than the source's %d", p, got.records-want.records, want.records)
		case got.sum != want.sum:
			return fmt.Errorf("partition %d: its %d records differ from those of the source", p, want.records)
		}
	}
	return nil
}
