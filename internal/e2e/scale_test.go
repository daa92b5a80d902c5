package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// scale is how large the larger topics of the tests below are; KLINK_SCALE=1000000 is a million.
func scale(t testing.TB, byDefault int) int {
	v := os.Getenv("KLINK_SCALE")
	if v == "" {
		return byDefault
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1000 {
		t.Fatalf("KLINK_SCALE is a number of records, 1000 or more: %q", v)
	}
	return n
}

// maxGrowth is how much more CPU time a mirror of four times the size may take: 4 is linear, 16 quadratic.
const maxGrowth = 9

// TestMirrorOfManyTransactions mirrors topics of one-record transactions, each with a marker behind it, and compares
// what they cost. Then it seeks anywhere in the larger one.
func TestMirrorOfManyTransactions(t *testing.T) {
	source, destination := kafkatest.Start(t, kafkatest.Heap("512m")), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	adm := kadm.NewClient(source.Client(t))
	const partitions = 8
	large := scale(t, 24_000) / partitions * partitions
	var cost []time.Duration
	for _, size := range []struct {
		topic string
		n     int
	}{{"small", large / 4}, {"large", large}} {
		if _, err := adm.CreateTopic(ctx, partitions, 1, nil, size.topic); err != nil {
			t.Fatal(err)
		}
		kafkatest.WaitFor(t, time.Minute, "leaders of "+size.topic, func() (bool, string) {
			ends := listOffsets(ctx, t, source.Client(t), size.topic, partitions, -1)
			return !strings.Contains(ends, "error"), ends
		})
		start := time.Now()
		writeTransactions(ctx, t, source, size.topic, partitions, size.n/partitions)
		made := time.Since(start)
		before, start := cpuTime(t, k.PID(t)), time.Now()
		k.MustCLI(t, "topic", "create", size.topic, "--link", "east")
		awaitMirrorFor(t, k, source, size.topic, 15*time.Minute)
		took := time.Since(start)
		cost = append(cost, cpuTime(t, k.PID(t))-before)
		fmt.Printf("%d transactions of one record: made at %.0f/s, mirrored at %.0f/s with %v of CPU time\n", size.n,
			float64(size.n)/made.Seconds(), float64(size.n)/took.Seconds(), cost[len(cost)-1].Round(10*time.Millisecond))
	}
	if cost[1] > maxGrowth*cost[0] {
		t.Errorf("four times the transactions cost %v of CPU time, not four times %v", cost[1], cost[0])
	}
	want := readCommittedAt(t, source.Bootstrap(), "small")
	assertSame(t, "small", want, readCommittedAt(t, k.Bootstrap(), "small"))
	if len(want) != large/4 {
		t.Errorf("%d records were compared", len(want))
	}
	for i := range 20 {
		partition, at := int32(i%partitions), int64(i)*int64(2*large/partitions)/20
		first := kgo.NewOffset().At(at)
		cl := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"large": {partition: first}}))
		rs := cl.PollFetches(ctx).Records()
		// Records are at even offsets, markers at odd ones.
		if len(rs) == 0 || rs[0].Offset != at+at%2 {
			t.Errorf("a seek to %d of partition %d gave %d records, the first %+v", at, partition, len(rs), rs)
		}
		cl.Close()
	}
}

// TestMirrorOfManyKeys mirrors compacted topics with as many keys as records, some of them written twice.
func TestMirrorOfManyKeys(t *testing.T) {
	source, destination := kafkatest.Start(t, kafkatest.Heap("512m")), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	adm := kadm.NewClient(source.Client(t))
	large := scale(t, 1_000_000)
	var cost []time.Duration
	for _, size := range []struct {
		topic string
		n     int
	}{{"small", large / 4}, {"large", large}} {
		compact := "compact"
		if _, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": &compact}, size.topic); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cl := source.Client(t, kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
		for i := range size.n {
			key := i
			if i%10 == 9 {
				key = i / 2
			}
			cl.Produce(ctx, &kgo.Record{Topic: size.topic, Partition: int32(key % 2), Key: fmt.Appendf(nil, "key %d", key), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		made := time.Since(start)
		before, start := cpuTime(t, k.PID(t)), time.Now()
		k.MustCLI(t, "topic", "create", size.topic, "--link", "east")
		awaitMirrorFor(t, k, source, size.topic, 15*time.Minute)
		took := time.Since(start)
		cost = append(cost, cpuTime(t, k.PID(t))-before)
		fmt.Printf("%d records of a compacted topic: made at %.0f/s, mirrored at %.0f/s with %v of CPU time\n", size.n,
			float64(size.n)/made.Seconds(), float64(size.n)/took.Seconds(), cost[len(cost)-1].Round(10*time.Millisecond))
		ends := listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), size.topic, 2, -1)
		if want := listOffsets(ctx, t, source.Client(t), size.topic, 2, -1); ends != want {
			t.Errorf("%s: the source ends at %s, the mirror at %s", size.topic, want, ends)
		}
	}
	if cost[1] > maxGrowth*cost[0] {
		t.Errorf("four times the keys cost %v of CPU time, not four times %v", cost[1], cost[0])
	}
}

// writeTransactions writes n transactions of one record to each partition, and a commit marker behind each. A coordinator
// is too slow to make so many: it is asked to begin one transaction, and the markers that end it, again and again, are
// written in its place. One request has a batch for each partition of a connection, the next one a marker for each.
func writeTransactions(ctx context.Context, t testing.TB, source *kafkatest.Cluster, topic string, partitions, n int) {
	t.Helper()
	const connections = 2
	var wg sync.WaitGroup
	errs := make([]error, connections)
	for c := range connections {
		cl := source.Client(t)
		w := &transactionWriter{cl: cl, id: fmt.Sprintf("scale-%s-%d", topic, c), topic: topic}
		for p := c * partitions / connections; p < (c+1)*partitions/connections; p++ {
			w.partitions = append(w.partitions, int32(p))
		}
		wg.Go(func() {
			defer cl.Close()
			errs[c] = w.begin(ctx)
			for i := 0; i < n && errs[c] == nil; i++ {
				errs[c] = w.write(ctx, i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

type transactionWriter struct {
	cl         *kgo.Client
	id, topic  string
	partitions []int32
	producer   int64
	epoch      int16
}

// begin gets a producer id, and tells the coordinator which partitions are written to.
func (w *transactionWriter) begin(ctx context.Context) error {
	initialise := kmsg.NewPtrInitProducerIDRequest()
	initialise.TransactionalID, initialise.TransactionTimeoutMillis = &w.id, 15*60_000
	resp, err := initialise.RequestWith(ctx, w.cl)
	if err != nil {
		return err
	}
	if resp.ErrorCode != 0 {
		return fmt.Errorf("InitProducerId of %s: error %d", w.id, resp.ErrorCode)
	}
	w.producer, w.epoch = resp.ProducerID, resp.ProducerEpoch
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = w.id, w.producer, w.epoch
	at := kmsg.NewAddPartitionsToTxnRequestTopic()
	at.Topic, at.Partitions = w.topic, w.partitions
	add.Topics = append(add.Topics, at)
	added, err := add.RequestWith(ctx, w.cl)
	if err != nil {
		return err
	}
	for _, at := range added.Topics {
		for _, ap := range at.Partitions {
			if ap.ErrorCode != 0 {
				return fmt.Errorf("AddPartitionsToTxn of %s: %s-%d: error %d", w.id, at.Topic, ap.Partition, ap.ErrorCode)
			}
		}
	}
	return nil
}

// write writes the i-th transaction of each partition.
func (w *transactionWriter) write(ctx context.Context, i int) error {
	produce := kmsg.NewPtrProduceRequest()
	produce.TransactionID, produce.Acks, produce.TimeoutMillis = &w.id, -1, 30_000
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic = w.topic
	markers := kmsg.NewPtrWriteTxnMarkersRequest()
	for _, p := range w.partitions {
		pp := kmsg.NewProduceRequestTopicPartition()
		pp.Partition = p
		batch := oneRecordBatch("transaction " + strconv.Itoa(i) + " " + strings.Repeat("v", 50))
		binary.BigEndian.PutUint16(batch[21:], 0x10) // transactional
		binary.BigEndian.PutUint64(batch[43:], uint64(w.producer))
		binary.BigEndian.PutUint16(batch[51:], uint16(w.epoch))
		binary.BigEndian.PutUint32(batch[53:], uint32(i)) // one record, so the sequence grows by one
		binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
		pp.Records = batch
		pt.Partitions = append(pt.Partitions, pp)
	}
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch, m.Committed = w.producer, w.epoch, true
	mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = w.topic, w.partitions
	m.Topics = append(m.Topics, mt)
	markers.Markers = append(markers.Markers, m)
	produce.Topics = append(produce.Topics, pt)
	kresp, err := w.cl.Broker(1).Request(ctx, &cappedProduce{produce})
	if err != nil {
		return err
	}
	for _, rt := range kresp.(*kmsg.ProduceResponse).Topics {
		for _, rp := range rt.Partitions {
			if rp.ErrorCode != 0 || rp.BaseOffset != int64(2*i) {
				return fmt.Errorf("transaction %d of %s-%d: error %d, offset %d", i, w.topic, rp.Partition, rp.ErrorCode, rp.BaseOffset)
			}
		}
	}
	if kresp, err = w.cl.Broker(1).Request(ctx, markers); err != nil {
		return err
	}
	for _, m := range kresp.(*kmsg.WriteTxnMarkersResponse).Markers {
		for _, mt := range m.Topics {
			for _, mp := range mt.Partitions {
				if mp.ErrorCode != 0 {
					return fmt.Errorf("marker %d of %s-%d: error %d", i, w.topic, mp.Partition, mp.ErrorCode)
				}
			}
		}
	}
	return nil
}

// cappedProduce is a Produce by topic name of before KIP-890, which leaves transactions to the client.
type cappedProduce struct{ *kmsg.ProduceRequest }

func (cappedProduce) MaxVersion() int16 { return 9 }

// cpuTime is the CPU time that a process has used, in user and kernel mode.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		t.Fatalf("stat: %q", stat)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("stat: %q", stat)
	}
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// awaitMirrorFor is awaitMirror for what may take long.
func awaitMirrorFor(t testing.TB, k *Klink, source *kafkatest.Cluster, topic string, timeout time.Duration) {
	t.Helper()
	ends, err := kadm.NewClient(source.Client(t)).ListEndOffsets(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, timeout, "mirror "+topic+" to have everything", func() (bool, string) {
		d, err := describeMirror(t, k, topic)
		if err != nil {
			return false, err.Error()
		}
		if d.State == "FAILED" {
			t.Fatalf("%+v", d)
		}
		for _, p := range d.Partitions {
			if end, ok := ends.Lookup(topic, p.Partition); !ok || p.MirrorEndOffset != end.Offset {
				return false, fmt.Sprintf("%+v, the source ends at %+v", d, end)
			}
		}
		return len(d.Partitions) == len(ends[topic]), fmt.Sprintf("%+v", d)
	})
}

func readCommittedAt(t testing.TB, bootstrap, topic string) []record {
	t.Helper()
	return readFranzWith(t, topic, kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
}
