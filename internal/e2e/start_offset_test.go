package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestStartOffset: mirror.start.offset.spec, for mirrors that have the source's offsets at the
// brokers too and for mirrors that have not. What lies before the start is never shown, also where
// the start is in the middle of a batch; what comes after it is all there, also after klink was
// killed; a partition that the source gets later is mirrored from its beginning; and after a
// failover the topic goes on as it should.
func TestStartOffset(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t))
	at := func(second int64) string {
		return time.UnixMilli(baseTime + second*1000).UTC().Format("2006-01-02T15:04:05.000")
	}
	var tests []*startTest
	for _, align := range []string{"auto", "off"} {
		for _, s := range []struct{ name, spec, begins string }{
			{"latest", "latest", "300 50 0"},
			{"in-a-batch", at(105), "105 50 0"}, // partition 1 has nothing as late
			{"at-a-batch", at(40), "40 40 0"},
			{"the-last", at(299), "299 50 0"},
			{"everything", at(-3600), "0 0 0"},
		} {
			test := &startTest{exact: e, topic: s.name + "-" + align, aligned: align == "auto", begins: s.begins}
			createLink(t, e.k, test.topic, e.source, "offset.alignment="+align, "mirror.start.offset.spec="+s.spec, "metadata.max.age.ms=500")
			e.createSource(t, test.topic, 3)
			produceVaried(e.ctx, t, e.source, test.topic, 0, 300)
			produceVaried(e.ctx, t, e.source, test.topic, 1, 50)
			e.k.MustCLI(t, "topic", "create", test.topic, "--link", test.topic)
			awaitMirror(t, e.k, e.source, test.topic)
			tests = append(tests, test)
		}
	}
	each := func(what string, check func(t *testing.T, test *startTest)) {
		t.Run(what, func(t *testing.T) {
			for _, test := range tests {
				t.Run(test.topic, func(t *testing.T) { check(t, test) })
			}
		})
	}
	each("begin", func(t *testing.T, test *startTest) { test.shows(t, 3, readers()[:1]) })
	// Before some of the mirrors have got a record. Then every partition gets records, an empty one
	// too.
	e.k.Kill()
	e.k.Restart()
	for _, test := range tests {
		for p := range int32(3) {
			produceVaried(e.ctx, t, e.source, test.topic, p, 25)
		}
	}
	each("go on", func(t *testing.T, test *startTest) {
		by := readers()
		if !strings.HasPrefix(test.topic, "in-a-batch") {
			by = whole(by, by[:1]) // the hardest start is for all clients
		}
		test.shows(t, 3, by)
	})
	e.k.Kill()
	e.k.Restart()
	for _, test := range tests {
		if _, err := e.adm.CreatePartitions(e.ctx, 1, test.topic); err != nil {
			t.Fatal(err)
		}
		kafkatest.WaitFor(t, time.Minute, "the broker to show the new partition", func() (bool, string) {
			topics, err := e.adm.ListTopics(e.ctx, test.topic)
			return err == nil && len(topics[test.topic].Partitions) == 4, fmt.Sprint(topics, err)
		})
		produceVaried(e.ctx, t, e.source, test.topic, 3, 20)
		test.begins += " 0"
	}
	each("grow", func(t *testing.T, test *startTest) { test.shows(t, 4, readers()[:1]) })
	each("refuse what is before", func(t *testing.T, test *startTest) { test.refusesBefore(t) })
	each("stop", func(t *testing.T, test *startTest) {
		e.k.MustCLI(t, "mirror", "failover", test.topic)
		test.shows(t, 4, readers()[:1])
	})
}

// startTest is a mirror that does not begin where its source does.
type startTest struct {
	*exact
	topic   string
	aligned bool
	begins  string // by partition, as listOffsets shows it
}

// shows checks what clients are told of the mirror, and, if it is aligned, what the brokers tell,
// too.
func (s *startTest) shows(t *testing.T, partitions int32, by []reader) {
	t.Helper()
	begins := strings.Fields(s.begins)
	want := slices.DeleteFunc(readFranz(t, s.source.Bootstrap(), s.topic, 0), func(r record) bool { return r.offset < atoi(begins[r.partition]) })
	ends := listOffsets(s.ctx, t, s.source.Client(t), s.topic, partitions, -1)
	ways := map[string]string{"through klink": s.k.Bootstrap()}
	if s.aligned {
		ways["around klink"] = s.destination.Bootstrap()
	}
	for way, bootstrap := range ways {
		cl := kafkatest.NewClient(t, kgo.SeedBrokers(bootstrap))
		for timestamp, offsets := range map[int64]string{-1: ends, -2: s.begins, baseTime + 150_000: s.firstAt(want, partitions, baseTime+150_000), 0: s.firstAt(want, partitions, 0)} {
			kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("%s %s to answer for the timestamp %d", s.topic, way, timestamp), func() (bool, string) {
				got, err := tryListOffsets(s.ctx, cl, s.topic, partitions, timestamp)
				return err == nil && got == offsets, fmt.Sprintf("%s instead of %s, %v", got, offsets, err)
			})
		}
		for _, r := range by {
			assertSame(t, s.topic+" "+way+" by "+r.name, want, r.read(t, bootstrap, s.topic, len(want)))
		}
	}
	d, err := describeMirror(t, s.k, s.topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Partitions {
		if p.Aligned != s.aligned && (s.aligned || p.Shift != 0) {
			t.Errorf("%s-%d: %+v", s.topic, p.Partition, p)
		}
	}
}

// firstAt is what a lookup by timestamp should find.
func (s *startTest) firstAt(records []record, partitions int32, timestamp int64) string {
	first := make([]string, partitions)
	for p := range first {
		first[p] = "-1"
		for _, r := range records {
			if r.partition == int32(p) && r.timestamp >= timestamp {
				first[p] = fmt.Sprint(r.offset)
				break
			}
		}
	}
	return strings.Join(first, " ")
}

// refusesBefore: a consumer that asks for the record before the start is told that there is none.
func (s *startTest) refusesBefore(t *testing.T) {
	begin := atoi(strings.Fields(s.begins)[0])
	if begin == 0 {
		return
	}
	c := kafkatest.NewClient(t, kgo.SeedBrokers(s.k.Bootstrap()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: {0: kgo.NewOffset().At(begin - 1)}}))
	for s.ctx.Err() == nil {
		f := c.PollFetches(s.ctx)
		f.EachRecord(func(r *kgo.Record) { t.Fatalf("got a record at %d", r.Offset) })
		if err := f.Err(); err != nil {
			if !strings.Contains(err.Error(), "OFFSET_OUT_OF_RANGE") {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no answer")
}

// TestStartOffsetInTransactions: a mirror that begins at latest while transactions are open at the
// source. Of those only what is written from then on is shown, once they are committed; of an
// aborted one nothing is.
func TestStartOffsetInTransactions(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t), "mirror.start.offset.spec=latest")
	const topic = "orders"
	e.createSource(t, topic, 2)
	produceVaried(e.ctx, t, e.source, topic, 0, 10)
	open := func(id string, partition int32) *kgo.Client {
		cl := e.source.Client(t, kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		kafkatest.Produce(t, cl, topic, partition, kafkatest.Records(5, 10)...)
		return cl
	}
	committed, aborted := open("committed", 0), open("aborted", 1)
	ends := listOffsets(e.ctx, t, e.source.Client(t), topic, 2, -1)
	if ends != "15 5" {
		t.Fatalf("the source ends at %s", ends)
	}
	e.mirror(t, topic)
	kafkatest.Produce(t, committed, topic, 0, kafkatest.Records(7, 10)...)
	kafkatest.Produce(t, aborted, topic, 1, kafkatest.Records(7, 10)...)
	if err := committed.EndTransaction(e.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := aborted.EndTransaction(e.ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, e.source.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())), topic, 1, kafkatest.Records(3, 10)...)
	e.awaitMarkers(t, topic)
	awaitMirror(t, e.k, e.source, topic)
	want := slices.DeleteFunc(readCommitted(t, e.source.Bootstrap(), topic), func(r record) bool { return r.partition == 0 && r.offset < 15 || r.partition == 1 && r.offset < 5 })
	if len(want) != 7+3 {
		t.Fatalf("the source has %d records behind the start", len(want))
	}
	for way, bootstrap := range map[string]string{"through klink": e.k.Bootstrap(), "around klink": e.destination.Bootstrap()} {
		kafkatest.WaitFor(t, time.Minute, "the mirror to begin at 15 and 5 "+way, func() (bool, string) {
			got := listOffsets(e.ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(bootstrap)), topic, 2, -2)
			return got == "15 5", got
		})
		for _, r := range isolatedReaders() {
			assertSame(t, way+" by "+r.name, want, r.read(t, bootstrap, topic, len(want)))
		}
	}
}

// TestStartOffsetCompacted: of a compacted topic no records can be deleted at the destination, so
// that those of a batch that lie before the start stay there. Through klink they are not shown.
func TestStartOffsetCompacted(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t), "mirror.start.offset.spec="+time.UnixMilli(baseTime+5000).UTC().Format(time.RFC3339))
	s := &startTest{exact: e, topic: "compacted", begins: "5"}
	e.createSource(t, s.topic, 1, "cleanup.policy=compact")
	produce := func(from int) {
		var records []*kgo.Record
		for i := from; i < from+10; i++ {
			records = append(records, &kgo.Record{Key: fmt.Append(nil, i), Value: []byte("v"), Timestamp: time.UnixMilli(baseTime + int64(i)*1000)})
		}
		kafkatest.Produce(t, e.source.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(10*time.Millisecond)), s.topic, 0, records...)
	}
	produce(0)
	e.mirror(t, s.topic)
	awaitMirror(t, e.k, e.source, s.topic)
	produce(10)
	s.shows(t, 1, readers())
	e.k.Kill()
	e.k.Restart()
	produce(20)
	awaitMirror(t, e.k, e.source, s.topic)
	s.shows(t, 1, readers())
	s.refusesBefore(t)
	e.k.MustCLI(t, "mirror", "failover", s.topic)
	s.shows(t, 1, readers()[:1])
}

// TestAutoCreate: topics of the source get mirrors by themselves as the filters say, with their
// records; a topic that is in the way stays as it is; and the filters are changed by their JSON
// alone.
func TestAutoCreate(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"app-", "other"}, link: []string{
		"metadata.max.age.ms=500", "auto.create.mirror.topics.enable=true",
		`{"topicFilters":[{"name":"app-","patternType":"prefixed","filterType":"include"},{"name":"app-test","patternType":"LITERAL","filterType":"EXCLUDE"}]}`,
	}})
	for _, topic := range []string{"app-1", "app-test", "other"} {
		e.createSource(t, topic, 2)
		produceVaried(e.ctx, t, e.source, topic, 0, 30)
	}
	// Kafka's own internal topics are there too.
	var offsets kadm.Offsets
	offsets.AddOffset("app-1", 0, 10, -1)
	if _, err := e.adm.CommitOffsets(e.ctx, "group", offsets); err != nil {
		t.Fatal(err)
	}
	if _, err := e.dst.CreateTopic(e.ctx, 1, 1, nil, "other"); err != nil {
		t.Fatal(err)
	}
	mirrors := func() string { return e.k.MustCLI(t, "mirror", "list") }
	kafkatest.WaitFor(t, time.Minute, "the mirror of app-1", func() (bool, string) {
		_, err := describeMirror(t, e.k, "app-1")
		return err == nil, fmt.Sprint(err)
	})
	e.compare(t, "app-1", 2)
	if _, err := describeMirror(t, e.k, "app-test"); err == nil {
		t.Error("app-test, which is excluded, has a mirror")
	}
	// A topic that comes later.
	e.createSource(t, "app-2", 1)
	produceVaried(e.ctx, t, e.source, "app-2", 0, 10)
	kafkatest.WaitFor(t, time.Minute, "the mirror of app-2", func() (bool, string) {
		_, err := describeMirror(t, e.k, "app-2")
		return err == nil, fmt.Sprint(err)
	})
	e.compare(t, "app-2", 1)

	e.k.MustCLI(t, "link", "update", "east", "--config", `{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}`)
	kafkatest.WaitFor(t, time.Minute, "the mirror of app-test", func() (bool, string) {
		_, err := describeMirror(t, e.k, "app-test")
		return err == nil, mirrors()
	})
	kafkatest.WaitFor(t, time.Minute, "the topic in the way to be reported", func() (bool, string) {
		log := e.k.Log(t)
		return strings.Contains(log, "TOPIC_EXISTS_ERROR") && strings.Contains(log, "topic 'other' exists at the destination"), ""
	})
	time.Sleep(2 * time.Second) // several runs
	if n := strings.Count(e.k.Log(t), "TOPIC_EXISTS_ERROR"); n != 1 {
		t.Errorf("the topic in the way is logged %d times", n)
	}
	if end := listOffsets(e.ctx, t, e.destination.Client(t), "other", 1, -1); end != "0" {
		t.Errorf("the topic in the way ends at %s", end)
	}
	if list := mirrors(); strings.Contains(list, "__") {
		t.Errorf("an internal topic has a mirror:\n%s", list)
	}
}
