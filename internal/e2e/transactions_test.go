package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/fnv"
	"strings"
	"sync"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// withoutVerification is a source that takes a transactional batch without asking the coordinator
// whether it knows of the transaction (KIP-890): manyTransactions keeps coordinators out of it.
func withoutVerification() kafkatest.Option {
	return kafkatest.Config("transaction.partition.verification.enable", "false")
}

// manyTransactions is how a topic is filled with transactions of one record, each a transactional
// batch and the control marker behind it. The logs are what producers and coordinators make of such
// transactions, but a transaction that goes through its coordinator takes milliseconds: here the
// markers that end it are written in the coordinator's place. One request has a batch for each
// partition of a writer, the next one the marker for each.
//
// Record i of a partition is at offset 2i, its marker at 2i+1.
type manyTransactions struct {
	topic        string
	partitions   int
	perPartition int
	abortedEvery int // the last of so many transactions is aborted; 0 = none
	writers      int // connections; each has its own producer and its share of the partitions
}

func (m manyTransactions) total() int { return m.partitions * m.perPartition }

// committed is how many records of a partition are committed.
func (m manyTransactions) committed() int {
	if m.abortedEvery == 0 {
		return m.perPartition
	}
	return m.perPartition - m.perPartition/m.abortedEvery
}

func (m manyTransactions) aborted(i int) bool {
	return m.abortedEvery > 0 && i%m.abortedEvery == m.abortedEvery-1
}

// value is that of the i-th record of a partition, the same length for all.
func (m manyTransactions) value(partition int32, i int) string {
	return fmt.Sprintf("transaction %08d of partition %04d %s", i, partition, strings.Repeat("v", 40))
}

// read reads the topic with read_committed and checks that it has each committed record, once, in
// order and at its offset, and no other. The digest is of all that, and of the timestamps.
func (m manyTransactions) read(ctx context.Context, t testing.TB, bootstrap string) (digest uint64) {
	t.Helper()
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeTopics(m.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	next := make([]int, m.partitions) // transaction
	hashes := make([]hash.Hash64, m.partitions)
	for p := range hashes {
		hashes[p] = fnv.New64a()
	}
	var b []byte
	for left := m.partitions * m.committed(); left > 0; {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d records of %s are missing: %v", left, m.topic, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			p := r.Partition
			if m.aborted(next[p]) {
				next[p]++
			}
			if r.Offset != int64(2*next[p]) || string(r.Value) != m.value(p, next[p]) || r.Key != nil || len(r.Headers) > 0 {
				t.Fatalf("instead of transaction %d, partition %d has %+v", next[p], p, r)
			}
			b = append(binary.AppendVarint(b[:0], r.Offset), r.Value...)
			b = binary.AppendVarint(b, r.Timestamp.UnixMilli())
			_, _ = hashes[p].Write(b)
			next[p]++
			left--
		})
	}
	for _, h := range hashes {
		digest = digest*31 + h.Sum64()
	}
	return digest
}

// write fills the topic, which must be empty and on one broker, of which verification is off.
func (m manyTransactions) write(ctx context.Context, t testing.TB, source *kafkatest.Cluster) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, m.writers)
	for n := range m.writers {
		cl := source.Client(t)
		w := &transactionWriter{manyTransactions: m, cl: cl, id: fmt.Sprintf("%s-%d", m.topic, n)}
		for p := n * m.partitions / m.writers; p < (n+1)*m.partitions/m.writers; p++ {
			w.mine = append(w.mine, int32(p))
		}
		wg.Go(func() {
			defer cl.Close()
			errs[n] = w.run(ctx)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// transactionWriter writes to some of the partitions, as one producer.
type transactionWriter struct {
	manyTransactions
	cl       *kgo.Client
	id       string
	mine     []int32
	producer int64
	epoch    int16

	batches [][]byte // of the partitions; each is changed in place for the next transaction
	produce *kmsg.ProduceRequest
	markers *kmsg.WriteTxnMarkersRequest
}

func (w *transactionWriter) run(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.requests()
	for i := range w.perPartition {
		if err := w.transaction(ctx, i); err != nil {
			return fmt.Errorf("transaction %d of %s: %w", i, w.id, err)
		}
	}
	return nil
}

// begin gets a producer id.
func (w *transactionWriter) begin(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &w.id, 15*60_000
	resp, err := req.RequestWith(ctx, w.cl)
	if err != nil {
		return err
	}
	if resp.ErrorCode != 0 {
		return fmt.Errorf("InitProducerId of %s: error %d", w.id, resp.ErrorCode)
	}
	w.producer, w.epoch = resp.ProducerID, resp.ProducerEpoch
	return nil
}

// requests makes the two requests that are sent again and again.
func (w *transactionWriter) requests() {
	w.produce = kmsg.NewPtrProduceRequest()
	w.produce.TransactionID, w.produce.Acks, w.produce.TimeoutMillis = &w.id, -1, 30_000
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic = w.topic
	for _, p := range w.mine {
		b := oneRecordBatch(w.value(p, 0))
		binary.BigEndian.PutUint16(b[21:], 0x10) // transactional
		binary.BigEndian.PutUint64(b[43:], uint64(w.producer))
		binary.BigEndian.PutUint16(b[51:], uint16(w.epoch))
		w.batches = append(w.batches, b)
		pp := kmsg.NewProduceRequestTopicPartition()
		pp.Partition, pp.Records = p, b
		pt.Partitions = append(pt.Partitions, pp)
	}
	w.produce.Topics = append(w.produce.Topics, pt)

	w.markers = kmsg.NewPtrWriteTxnMarkersRequest()
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch = w.producer, w.epoch
	mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = w.topic, w.mine
	m.Topics = append(m.Topics, mt)
	w.markers.Markers = append(w.markers.Markers, m)
}

// transaction writes the i-th transaction of each partition.
func (w *transactionWriter) transaction(ctx context.Context, i int) error {
	for n, b := range w.batches {
		value := w.value(w.mine[n], i)
		copy(b[len(b)-1-len(value):], value)          // behind it is the number of headers, 0
		binary.BigEndian.PutUint32(b[53:], uint32(i)) // one record, so the sequence grows by one
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	}
	kresp, err := w.cl.Broker(1).Request(ctx, &cappedProduce{w.produce})
	if err != nil {
		return err
	}
	for _, rt := range kresp.(*kmsg.ProduceResponse).Topics {
		for _, rp := range rt.Partitions {
			if rp.ErrorCode != 0 || rp.BaseOffset != int64(2*i) {
				return fmt.Errorf("Produce to partition %d: error %d, offset %d", rp.Partition, rp.ErrorCode, rp.BaseOffset)
			}
		}
	}
	w.markers.Markers[0].Committed = !w.aborted(i)
	if kresp, err = w.cl.Broker(1).Request(ctx, w.markers); err != nil {
		return err
	}
	written := 0
	for _, m := range kresp.(*kmsg.WriteTxnMarkersResponse).Markers {
		for _, mt := range m.Topics {
			for _, mp := range mt.Partitions {
				written++
				if mp.ErrorCode != 0 {
					return fmt.Errorf("the marker of partition %d: error %d", mp.Partition, mp.ErrorCode)
				}
			}
		}
	}
	if written != len(w.mine) {
		return fmt.Errorf("%d markers of %d were answered", written, len(w.mine))
	}
	return nil
}

// cappedProduce is a Produce by topic name of before KIP-890, which leaves transactions to the
// client.
type cappedProduce struct{ *kmsg.ProduceRequest }

func (cappedProduce) MaxVersion() int16 { return 9 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
