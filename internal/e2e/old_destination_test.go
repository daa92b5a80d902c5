package e2e

import (
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExactOldDestination mirrors every kind of data from 4.3.1 to brokers with ZooKeeper: offsets
// are aligned, transactions, compaction and append times kept, and after a stop the topics are
// written to. Both refuse batches with the LogAppendTime bit.
func TestExactOldDestination(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t, kafkatest.Config("log.cleaner.backoff.ms", "500"))
	filled := false
	for _, v := range []kafkatest.Version{kafkatest.V282, kafkatest.V241} {
		t.Run(string(v), func(t *testing.T) {
			e := exactBetween(t, source, kafkatest.StartRelease(t, v))
			if !filled {
				e.fillForOld(t)
				filled = true
			}
			topics := map[string]int32{"plain": 2, "tx": 3, "append": 2}
			for topic := range topics {
				e.mirror(t, topic)
			}
			e.mirror(t, "table")
			for topic, partitions := range topics {
				want := e.compare(t, topic, partitions)
				d, err := describeMirror(t, e.k, topic)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range d.Partitions {
					if !p.Aligned {
						t.Errorf("partition %d of %s is not aligned: shift %d from %d on: %s", p.Partition, topic, p.Shift, p.ShiftBegan, p.ShiftReason)
					}
				}
				around := readCommitted(t, e.destination.Bootstrap(), topic)
				for i := range want {
					want[i].timestampType = "CreateTime" // with the time of the append where the source has LogAppendTime
				}
				assertSame(t, topic+" around klink", want, around)
			}
			e.holds(t, "table")
			for topic, partitions := range topics {
				e.ownAfterStop(t, topic, partitions)
			}
		})
	}
}

// fillForOld makes the topics of TestExactOldDestination.
func (e *exact) fillForOld(t *testing.T) {
	t.Helper()
	e.createSource(t, "plain", 2)
	produceVaried(e.ctx, t, e.source, "plain", 0, 260)
	produceVaried(e.ctx, t, e.source, "plain", 1, 30)
	deleteBefore(e.ctx, t, e.adm, "plain", map[int32]int64{0: 105})
	e.createSource(t, "tx", 3)
	transact(e.ctx, t, e.source, "tx", "a", 3, 12, 7)
	e.createSource(t, "append", 2)
	produceVaried(e.ctx, t, e.source, "append", 0, 60)
	setConfig(e.ctx, t, e.adm, "append", "message.timestamp.type", "LogAppendTime")
	produceVaried(e.ctx, t, e.source, "append", 0, 260)
	produceVaried(e.ctx, t, e.source, "append", 1, 10)
	setConfig(e.ctx, t, e.adm, "append", "message.timestamp.type", "CreateTime")
	produceVaried(e.ctx, t, e.source, "append", 0, 60)

	e.createSource(t, "table", 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01", "segment.ms=1000", "delete.retention.ms=86400000", "max.compaction.lag.ms=1000")
	cl := e.source.Client(t, kgo.ProducerLinger(5*time.Millisecond), kgo.DefaultProduceTopic("table"))
	kafkatest.WaitFor(t, 2*time.Minute, "the source to compact", func() (bool, string) {
		for i := range 200 {
			r := &kgo.Record{Key: fmt.Appendf(nil, "key %d", i*i%150), Value: fmt.Appendf(nil, "value %d", i)}
			if i%17 == 3 {
				r.Value = nil
			}
			cl.Produce(e.ctx, r, nil)
		}
		if err := cl.Flush(e.ctx); err != nil {
			return false, err.Error()
		}
		time.Sleep(1100 * time.Millisecond) // segment.ms: the broker rolls by its clock
		read := readFranz(t, e.source.Bootstrap(), "table", 0)
		end := read[len(read)-1].offset + 1
		return end >= 600 && int64(len(read)) < end/2, fmt.Sprintf("%d records below offset %d", len(read), end)
	})
}

// ownAfterStop stops a mirror and writes to every partition: idempotent records, and some in
// transactions. They stand where the source ends, and consumers read across.
func (e *exact) ownAfterStop(t *testing.T, topic string, partitions int32) {
	t.Helper()
	want := readCommitted(t, e.source.Bootstrap(), topic)
	all := want[:len(want):len(want)] // what is aborted too
	ends, err := e.adm.ListEndOffsets(e.ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	e.k.MustCLI(t, "mirror", "failover", topic)
	awaitMirrorState(t, e.k, topic, "STOPPED", "")
	idempotent := kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	tx := kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("own "+topic))
	next := map[int32]int64{}
	produce := func(cl *kgo.Client, shown bool) {
		t.Helper()
		for p := range partitions {
			for n := range 3 {
				r := &kgo.Record{Topic: topic, Partition: p, Timestamp: time.UnixMilli(baseTime), Value: fmt.Appendf(nil, "own %d", n)}
				if err := cl.ProduceSync(e.ctx, r).FirstErr(); err != nil {
					t.Fatalf("produce to partition %d of %s after the stop: %v", p, topic, err)
				}
				end, _ := ends.Lookup(topic, p)
				if at := end.Offset + next[p]; r.Offset != at {
					t.Fatalf("a record of partition %d of %s was given offset %d after the stop, want %d", p, topic, r.Offset, at)
				}
				next[p]++
				own := record{p, r.Offset, "CreateTime", baseTime, null, string(r.Value), ""}
				if all = append(all, own); shown {
					want = append(want, own)
				}
			}
		}
	}
	produce(idempotent, true)
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(tx, bool(commit))
		if err := tx.EndTransaction(e.ctx, commit); err != nil {
			t.Fatal(err)
		}
		for p := range partitions {
			next[p]++ // the marker
		}
	}
	assertSame(t, topic+" after the stop", sorted(want), readCommitted(t, e.k.Bootstrap(), topic))
	assertSame(t, topic+" after the stop, by librdkafka", sorted(all), readLibrdkafka(t, e.k.Bootstrap(), topic, len(all)))
}
