package e2e

import (
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExactAfterStop: point 11, for a mirror that has the source's offsets at the brokers too and
// for one that has not. Writes continue at the logical end, consumers go on across it, and whatever
// tells of offsets agrees.
func TestExactAfterStop(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t))
	createLink(t, e.k, "shifting", e.source, "offset.alignment=off")
	for _, test := range []struct{ topic, link string }{{"aligned", "east"}, {"shifted", "shifting"}} {
		t.Run(test.topic, func(t *testing.T) { e.stopAndGoOn(t, test.topic, test.link) })
	}
}

func (e *exact) stopAndGoOn(t *testing.T, topic, link string) {
	e.createSource(t, topic, 1)
	produceVaried(e.ctx, t, e.source, topic, 0, 100)
	transact(e.ctx, t, e.source, topic, "a-"+topic, 1, 5, 4)
	deleteBefore(e.ctx, t, e.adm, topic, map[int32]int64{0: 37})
	e.k.MustCLI(t, "topic", "create", topic, "--link", link)
	awaitMirror(t, e.k, e.source, topic)
	end := atoi(listOffsets(e.ctx, t, e.source.Client(t), topic, 1, -1))
	want := readCommitted(t, e.source.Bootstrap(), topic)

	// A group has read the mirror, another one has committed what the mirror does not have.
	through := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap())))
	crossing := consumeAcross(t, e.k.Bootstrap(), "crossing-"+topic, topic)
	crossing.await(t, len(want))
	var ahead kadm.Offsets
	ahead.AddOffset(topic, 0, end+1000, -1)
	if _, err := through.CommitOffsets(e.ctx, "ahead-"+topic, ahead); err != nil {
		t.Fatal(err)
	}
	e.k.MustCLI(t, "mirror", "failover", topic)
	if o := e.committed(t, through, "ahead-"+topic, topic); o != end {
		t.Errorf("a committed offset beyond the end is %d after the stop, want %d", o, end)
	}

	own := e.writeOwn(t, topic, end)
	for _, r := range readers() {
		got := r.read(t, e.k.Bootstrap(), topic, len(want)+own)
		if len(got) != len(want)+own {
			t.Fatalf("%s reads %d records", r.name, len(got))
		}
		assertSame(t, r.name, want, got[:len(want)])
		for i, r := range got[len(want):] {
			if r.offset != end+int64(i) {
				t.Errorf("own record %d stands at %d, want %d", i, r.offset, end+int64(i))
			}
		}
	}
	offsets := crossing.await(t, len(want)+own)
	for i, o := range offsets[len(want):] {
		if o != end+int64(i) {
			t.Errorf("the consumer that was there all the time has record %d behind the stop at %d, want %d", i, o, end+int64(i))
		}
	}
	crossing.leave(t)
	e.offsetsAgree(t, through, topic, end, int64(own))
}

// writeOwn writes to a stopped mirror that ends at end, by an idempotent and by a transactional
// producer, and returns how many records.
func (e *exact) writeOwn(t *testing.T, topic string, end int64) int {
	t.Helper()
	through := []kgo.Opt{kgo.SeedBrokers(e.k.Bootstrap()), kgo.DefaultProduceTopic(topic)}
	cl := kafkatest.NewClient(t, through...)
	for i := range int64(10) {
		r, err := cl.ProduceSync(e.ctx, kgo.StringRecord(fmt.Sprint("mine ", i))).First()
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset != end+i {
			t.Errorf("record %d was given offset %d, want %d", i, r.Offset, end+i)
		}
	}
	tx := kafkatest.NewClient(t, append(through, kgo.TransactionalID("mine-"+topic))...)
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if r, err := tx.ProduceSync(e.ctx, kgo.StringRecord("mine in a transaction")).First(); err != nil || r.Offset != end+10 {
		t.Errorf("%v %v", r, err)
	}
	if err := tx.EndTransaction(e.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, time.Minute, "the end of the transaction to be in the log", func() (bool, string) {
		g := listOffsets(e.ctx, t, cl, topic, 1, -1)
		return g == fmt.Sprint(end+12), g
	})
	return 11
}

// offsetsAgree looks at a stopped mirror that ended at end, with own records and a transaction's
// marker behind it, through all that tells offsets.
func (e *exact) offsetsAgree(t *testing.T, through *kadm.Client, topic string, end, own int64) {
	t.Helper()
	now := end + own + 1
	if o := e.committed(t, through, "crossing-"+topic, topic); o < end+own || o > now {
		t.Errorf("the group that has read everything has committed %d, the log ends at %d", o, now)
	}
	group := "ahead-" + topic // its offset is where the mirror ended
	lags, err := through.Lag(e.ctx, group)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := lags[group].Lag.Lookup(topic, 0)
	if l.Lag != own+1 || l.Commit.At != end || l.End.Offset != now {
		t.Errorf("lag %d of committed %d and end %d, want %d, %d and %d", l.Lag, l.Commit.At, l.End.Offset, own+1, end, now)
	}
	if got, want := groupLag(t, e.k.Bootstrap(), group)[0], fmt.Sprintf("%d %d %d", end, now, own+1); got != want {
		t.Errorf("kafka-consumer-groups shows %q, want %q", got, want)
	}
	meta, err := through.Metadata(e.ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	var epochs kadm.OffsetForLeaderEpochRequest
	epochs.Add(topic, 0, meta.Topics[topic].Partitions[0].LeaderEpoch)
	ends, err := through.OffsetForLeaderEpoch(e.ctx, epochs)
	if err != nil {
		t.Fatal(err)
	}
	if at := ends[topic][0]; at.Err != nil || at.EndOffset != now {
		t.Errorf("OffsetForLeaderEpoch tells %+v, want the end %d", at, now)
	}
	deleteBefore(e.ctx, t, through, topic, map[int32]int64{0: end + 5})
	if got := listOffsets(e.ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap())), topic, 1, -2); got != fmt.Sprint(end+5) {
		t.Errorf("after delete-records the log starts at %s, want %d", got, end+5)
	}
	left := readLibrdkafka(t, e.k.Bootstrap(), topic, int(own-5))
	if len(left) != int(own-5) || left[0].offset != end+5 {
		t.Errorf("after delete-records %d records are left, want %d from %d on", len(left), own-5, end+5)
	}
}

func (e *exact) committed(t *testing.T, adm *kadm.Client, group, topic string) int64 {
	t.Helper()
	fetched, err := adm.FetchOffsets(e.ctx, group)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := fetched.Lookup(topic, 0)
	return o.At
}
