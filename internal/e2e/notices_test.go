package e2e

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// awaitNotice waits until a mirror is described with a notice that has a text, or with none where
// that is empty.
func (e *exact) awaitNotice(t *testing.T, topic, text string) mirrorDescription {
	t.Helper()
	var d mirrorDescription
	kafkatest.WaitFor(t, time.Minute, "a notice of mirror "+topic+": "+text, func() (bool, string) {
		var err error
		if d, err = describeMirror(t, e.k, topic); err != nil {
			return false, err.Error()
		}
		if text == "" {
			return len(d.Notices) == 0, fmt.Sprintf("%+v", d)
		}
		return strings.Contains(strings.Join(d.Notices, "\n"), text), fmt.Sprintf("%+v", d)
	})
	return d
}

// TestTopicChangedAroundKlink: in what a mirror's topic is not what klink has made of it, `mirror
// describe` says.
func TestTopicChangedAroundKlink(t *testing.T) {
	t.Parallel()
	e := exactBetween(t, kafkatest.Start(t), kafkatest.Start(t, kafkatest.Brokers(2)))
	for topic, configs := range map[string][]string{
		"grown": nil, "written": nil, "emptied": {"retention.ms=-1"}, "table": {"cleanup.policy=compact,delete", "retention.ms=-1"}, "short": nil, "anew": nil,
	} {
		e.createSource(t, topic, 2, configs...)
		kafkatest.Produce(t, e.source.Client(t), topic, 0, keyed(60)...)
		kafkatest.Produce(t, e.source.Client(t), topic, 1, keyed(5)...)
		e.mirror(t, topic)
		awaitMirror(t, e.k, e.source, topic)
		e.awaitNotice(t, topic, "")
	}

	// Partitions: reading goes on, and the source may grow to as many.
	for _, topic := range []string{"grown", "written"} {
		if _, err := e.dst.UpdatePartitions(e.ctx, 4, topic); err != nil {
			t.Fatal(err)
		}
		d := e.awaitNotice(t, topic, "4 partitions at the destination, but 2 at the source")
		if d.State != "ACTIVE" || len(d.Partitions) != 2 {
			t.Errorf("%+v", d)
		}
		kafkatest.Produce(t, e.source.Client(t), topic, 0, keyed(7)...)
		want := readFranz(t, e.source.Bootstrap(), topic, 0)
		assertSame(t, topic+", with more partitions", want, e.readPartitions(t, topic, len(want), 0, 1, 2))
	}
	if out := e.k.MustCLI(t, "mirror", "describe", "grown"); !strings.Contains(out, "\nNotice: The topic has 4 partitions") {
		t.Error(out)
	}
	if _, err := e.adm.UpdatePartitions(e.ctx, 4, "grown"); err != nil {
		t.Fatal(err)
	}
	e.awaitNotice(t, "grown", "")
	kafkatest.Produce(t, e.source.Client(t), "grown", 3, keyed(9)...)
	e.compare(t, "grown", 4)

	// Records: where nothing but somebody around klink can have deleted them.
	for _, topic := range []string{"emptied", "table", "short"} {
		deleteBefore(e.ctx, t, e.dst, topic, map[int32]int64{0: 10})
	}
	for _, topic := range []string{"emptied", "table"} {
		e.awaitNotice(t, topic, "the log of partition 0 begins at physical offset 10, but klink has deleted none from 0 on")
	}
	e.awaitNotice(t, "short", "") // retention may have done it
	// What the source deletes is deleted here, by klink.
	deleteBefore(e.ctx, t, e.adm, "table", map[int32]int64{0: 30, 1: 5})
	e.awaitNotice(t, "table", "")
	deleteBefore(e.ctx, t, e.dst, "table", map[int32]int64{0: 31})
	e.awaitNotice(t, "table", "begins at physical offset 31, but klink has deleted none from 30 on")

	// Void batches: of a topic that is not compacted they are no more than that.
	kafkatest.Produce(t, e.destination.Client(t), "short", 1, keyed(3)...)
	d := e.awaitNotice(t, "short", "3 offsets in 1 partitions of the log are void, first in partition 1 from physical offset 5 on; somebody wrote 3 of them")
	if d.State != "ACTIVE" || strings.Contains(fmt.Sprint(d.Notices), "COMPACTION") {
		t.Errorf("%+v", d)
	}

	// A transaction around klink: read_committed waits for it.
	tx := e.destination.Client(t, kgo.TransactionalID("around"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(e.ctx, &kgo.Record{Topic: "written", Partition: 1, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	e.awaitNotice(t, "written", "A transaction is open in partition 1 at the destination, from physical offset 5 on")
	if err := tx.EndTransaction(e.ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, time.Minute, "the transaction to be over", func() (bool, string) {
		d, err := describeMirror(t, e.k, "written")
		return err == nil && !strings.Contains(fmt.Sprint(d.Notices), "transaction"), fmt.Sprintf("%v %+v", err, d)
	})

	// Replicas.
	meta, err := e.dst.Metadata(e.ctx, "emptied")
	if err != nil {
		t.Fatal(err)
	}
	now := meta.Topics["emptied"].Partitions[1].Replicas
	other := []int32{meta.Brokers.NodeIDs()[0], meta.Brokers.NodeIDs()[1]}
	if len(now) > 1 {
		other = now[:1]
	}
	var assign kadm.AlterPartitionAssignmentsReq
	assign.Assign("emptied", 1, other)
	if rs, err := e.dst.AlterPartitionAssignments(e.ctx, assign); err != nil || rs.Error() != nil {
		t.Fatal(err, rs)
	}
	e.awaitNotice(t, "emptied", fmt.Sprintf("Partition 1 has %d replicas at the destination, but the topic was created with %d", len(other), len(now)))

	// A topic of the same name.
	if _, err := e.dst.DeleteTopics(e.ctx, "anew"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.dst.CreateTopics(e.ctx, 2, 1, nil, "anew"); err != nil {
		t.Fatal(err)
	}
	awaitMirrorState(t, e.k, "anew", "FAILED", "MIRROR_TOPIC_DELETED")
	e.awaitNotice(t, "anew", "The mirror's topic was deleted and created again")
}

// readPartitions reads n records of some partitions through klink; what is not shown gives none.
func (e *exact) readPartitions(t *testing.T, topic string, n int, partitions ...int32) (got []record) {
	t.Helper()
	from := map[int32]kgo.Offset{}
	for _, p := range partitions {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl := connect(t, e.k.Bootstrap(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	for len(got) < n && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, toRecord(r)) })
	}
	slices.SortFunc(got, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	return got
}

// keyed are n records of as many keys.
func keyed(n int) (records []*kgo.Record) {
	for i := range n {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d", i)})
	}
	return records
}
