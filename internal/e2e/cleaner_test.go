package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newCleaned makes a world whose destination compacts as soon as it may.
func newCleaned(t *testing.T) *exact {
	t.Helper()
	eager := []kafkatest.Option{kafkatest.Config("log.cleaner.backoff.ms", "200"), kafkatest.Config("log.cleaner.min.cleanable.ratio", "0.001")}
	e := exactBetween(t, kafkatest.Start(t), kafkatest.Start(t, eager...), "topic.config.sync.ms=500")
	return e
}

// table makes a compacted topic at the source with keys k0 to k49, and its mirror. Records are so
// old, by their timestamps.
func (e *exact) table(t *testing.T, topic string, age time.Duration) {
	t.Helper()
	e.createSource(t, topic, 1, "cleanup.policy=compact", "segment.ms=1000", "min.cleanable.dirty.ratio=1", "delete.retention.ms=86400000")
	e.put(t, e.source, topic, age, "source", keys(0, 50)...)
	e.mirror(t, topic)
	awaitMirror(t, e.k, e.source, topic)
}

func keys(from, to int) (ks []string) {
	for i := from; i < to; i++ {
		ks = append(ks, fmt.Sprintf("k%d", i))
	}
	return ks
}

// put writes one batch straight to a cluster: the value of each key says who wrote it; nobody = a
// tombstone.
func (e *exact) put(t *testing.T, c *kafkatest.Cluster, topic string, age time.Duration, who string, keys ...string) {
	t.Helper()
	cl := c.Client(t, kgo.ProducerLinger(20*time.Millisecond))
	defer cl.Close()
	var rs []*kgo.Record
	for _, k := range keys {
		r := &kgo.Record{Topic: topic, Key: []byte(k), Timestamp: time.Now().Add(-age)}
		if who != "" {
			r.Value = []byte(k + " of " + who)
		}
		rs = append(rs, r)
	}
	if err := cl.ProduceSync(e.ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// roll lets the source write so that the mirror's log gets a new segment, and what is before it can
// be cleaned.
func (e *exact) roll(t *testing.T, topic string, age time.Duration) {
	t.Helper()
	e.writeOn(t, topic, age)
	awaitMirror(t, e.k, e.source, topic)
}

// writeOn is roll, and waits for nothing.
func (e *exact) writeOn(t *testing.T, topic string, age time.Duration) {
	t.Helper()
	for i := range 2 {
		time.Sleep(1200 * time.Millisecond)
		e.put(t, e.source, topic, age, "source", fmt.Sprintf("roll %d", i))
	}
}

// double appends the first batch of the mirror once more, as it stands, as a network does that
// doubles a request.
func (e *exact) double(t *testing.T, topic string) {
	t.Helper()
	cl := e.destination.Client(t)
	p, _, err := rawFetch(e.ctx, cl, topic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := p.RecordBatches
	size := 12 + int(int32(uint32(b[8])<<24|uint32(b[9])<<16|uint32(b[10])<<8|uint32(b[11])))
	meta, err := e.dst.Metadata(e.ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, meta.Topics[topic].ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = b[:size]
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(e.ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// latest is the last value of each key.
func latest(rs []record) map[string]string {
	m := map[string]string{}
	for _, r := range rs {
		m[r.key] = r.value
	}
	return m
}

// hasAll checks that every key has the source's record through klink, and at the source's offset.
func (e *exact) hasAll(t *testing.T, topic string) {
	t.Helper()
	e.sameTable(t, "through klink", readFranz(t, e.source.Bootstrap(), topic, 0), readFranz(t, e.k.Bootstrap(), topic, 0))
}

func (e *exact) sameTable(t *testing.T, what string, want, got []record) {
	t.Helper()
	w, g := latest(want), latest(got)
	for k, v := range w {
		if g[k] != v && (v != null || g[k] != "") { // a tombstone may be gone
			t.Errorf("%s: key %s is %q, want %q", what, k, g[k], v)
		}
	}
	for k, v := range g {
		if _, ok := w[k]; !ok && v != null {
			t.Errorf("%s: key %s is %q, and the source never had it", what, k, v)
		}
	}
}

// physicallyGone says whether the log of the mirror at the broker has lost the first record of a
// key.
func (e *exact) physicallyGone(t *testing.T, topic, key string) bool {
	t.Helper()
	for _, r := range readFranz(t, e.destination.Bootstrap(), topic, 0) {
		if r.key == key && r.value == key+" of source" {
			return false
		}
	}
	return true
}

// topicConfigValue is a config of a topic at the destination.
func (e *exact) topicConfigValue(t *testing.T, topic, name string) string {
	t.Helper()
	cs, err := e.dst.DescribeTopicConfigs(e.ctx, topic)
	if err != nil || cs[0].Err != nil {
		t.Fatal(err, cs)
	}
	for _, c := range cs[0].Configs {
		if c.Key == name {
			return c.MaybeValue()
		}
	}
	return ""
}

const never = "9223372036854775807"

// awaitRest waits until klink has found something void in a mirror, and it is not compacted.
func (e *exact) awaitRest(t *testing.T, topic string) mirrorDescription {
	t.Helper()
	var d mirrorDescription
	kafkatest.WaitFor(t, 90*time.Second, "mirror "+topic+" not to be compacted", func() (bool, string) {
		var err error
		d, err = describeMirror(t, e.k, topic)
		lag := e.topicConfigValue(t, topic, "min.compaction.lag.ms")
		return err == nil && strings.Contains(strings.Join(d.Notices, " "), "COMPACTION IS PAUSED") && lag == never, fmt.Sprintf("%v %s %+v", err, lag, d)
	})
	return d
}

// awaitCleaned waits until the cleaner of the destination has removed what a stopped topic has
// twice.
func (e *exact) awaitCleaned(t *testing.T, topic string) {
	t.Helper()
	cl := connect(t, e.k.Bootstrap())
	n := 0
	kafkatest.WaitFor(t, 2*time.Minute, "topic "+topic+" to be compacted", func() (bool, string) {
		n++
		r := &kgo.Record{Topic: topic, Key: []byte("turn"), Value: fmt.Appendf(nil, "%d", n)}
		if err := cl.ProduceSync(e.ctx, r).FirstErr(); err != nil {
			return false, err.Error()
		}
		pause(e.ctx, 1200*time.Millisecond) // a new segment
		seen, twice := map[string]int{}, 0
		for _, r := range readFranz(t, e.destination.Bootstrap(), topic, 0) {
			if seen[r.key]++; seen[r.key] == 2 && r.key != "turn" {
				twice++
			}
		}
		return twice == 0, fmt.Sprintf("%d keys are there twice", twice)
	})
}

// TestCleanerTakesNothing: what does not count in a compacted mirror, with keys that count, never
// makes the destination's cleaner remove what counts, neither while the topic is a mirror nor
// afterwards.
func TestCleanerTakesNothing(t *testing.T) {
	t.Parallel()
	e := newCleaned(t)
	attacks := []struct {
		name string
		age  time.Duration // of the records
		do   func(topic string)
		how  string // it is stopped
	}{
		{"foreign", 0, func(topic string) { e.put(t, e.destination, topic, 0, "a stranger", "k7", "unknown") }, "failover"},
		{"tombstone", 0, func(topic string) { e.put(t, e.destination, topic, 0, "", "k7") }, "promote"},
		{"doubled", 0, func(topic string) { e.double(t, topic) }, "failover"},
		{"before-and-after", 0, func(topic string) {
			e.put(t, e.destination, topic, 0, "a stranger", "k7", "k8", "k9") // before that which counts
			e.put(t, e.source, topic, 0, "source", "k7", "k8")
			awaitMirror(t, e.k, e.source, topic)
			e.put(t, e.destination, topic, 0, "a stranger", "k8", "k10") // after it
		}, "failover"},
		{"deleted", 0, func(topic string) { // at the source, before the stranger came
			e.put(t, e.source, topic, 0, "", "k7")
			awaitMirror(t, e.k, e.source, topic)
			e.put(t, e.destination, topic, 0, "a stranger", "k7")
		}, "failover"},
	}
	for _, a := range attacks {
		e.table(t, a.name, a.age)
	}
	for _, a := range attacks {
		a.do(a.name)
	}
	for _, a := range attacks {
		e.roll(t, a.name, a.age)
	}
	for _, a := range attacks {
		d := e.awaitRest(t, a.name)
		if d.State != "ACTIVE" || strings.Contains(fmt.Sprint(d.ConfigDrift), "compaction.lag") {
			t.Errorf("%s: %+v", a.name, d)
		}
	}
	pause(e.ctx, 3*time.Second) // klink compares the configs, and the cleaner looks, several times a second
	for _, a := range attacks {
		if lag := e.topicConfigValue(t, a.name, "min.compaction.lag.ms"); lag != never {
			t.Errorf("%s: min.compaction.lag.ms is %s", a.name, lag)
		}
		if e.physicallyGone(t, a.name, "k20") {
			t.Errorf("%s: the mirror was compacted", a.name)
		}
		e.hasAll(t, a.name)
	}
	if n, ok := e.k.sumOf(t, "klink_mirror_compaction_paused", ""); !ok || n != float64(len(attacks)) {
		t.Errorf("klink_mirror_compaction_paused: %v", n)
	}
	e.k.Kill()
	e.k.Restart()
	for _, a := range attacks {
		e.awaitRest(t, a.name)
		t.Run(a.name, func(t *testing.T) {
			want := readFranz(t, e.source.Bootstrap(), a.name, 0)
			e.k.MustCLI(t, "mirror", a.how, a.name)
			awaitMirrorState(t, e.k, a.name, "STOPPED", "")
			if d, err := describeMirror(t, e.k, a.name); err != nil || d.ErrorMessage != "" || len(d.Notices) != 0 {
				t.Errorf("%v %+v", err, d)
			}
			kafkatest.WaitFor(t, time.Minute, "the topic to have its source's configs", func() (bool, string) {
				min, max := e.topicConfigValue(t, a.name, "min.compaction.lag.ms"), e.topicConfigValue(t, a.name, "max.compaction.lag.ms")
				return min == "0" && max == never, min + " " + max
			})
			e.sameTable(t, "before it is compacted", want, readFranz(t, e.k.Bootstrap(), a.name, 0))
			e.awaitCleaned(t, a.name)
			for what, at := range map[string]string{"through klink": e.k.Bootstrap(), "at the broker": e.destination.Bootstrap()} {
				got := readFranz(t, at, a.name, 0)
				e.sameTable(t, what, append(want, record{key: "turn", value: latest(got)["turn"]}), got)
			}
		})
	}
}

// TestCleanerInAnIdleMirror: klink looks at the ends of logs to which nothing is appended. Where
// the cleaner was faster than that, because timestamps are old, klink finds out, and the mirror
// fails by name; where it was not, the mirror goes on.
func TestCleanerInAnIdleMirror(t *testing.T) {
	t.Parallel()
	e := newCleaned(t)
	const old = 24 * time.Hour
	e.table(t, "young", 0)
	e.table(t, "lost", old)
	e.table(t, "unharmed", old)
	e.table(t, "stranger", old)
	e.table(t, "race", old)
	e.double(t, "race")
	e.writeOn(t, "race", old)
	for _, topic := range []string{"young", "lost"} {
		if lag := e.topicConfigValue(t, topic, "min.compaction.lag.ms"); lag != "600000" {
			t.Errorf("min.compaction.lag.ms of mirror %s is %s", topic, lag)
		}
	}
	// Two segments by timestamps: the first can be cleaned, where it is old.
	e.put(t, e.destination, "lost", old, "a stranger", "k7", "k8")
	e.put(t, e.destination, "lost", old-time.Hour, "a stranger", "other")
	kafkatest.WaitFor(t, 20*time.Second, "the cleaner to be faster than klink", func() (bool, string) {
		return e.physicallyGone(t, "lost", "k7"), "k7 is there"
	})
	e.put(t, e.destination, "young", 0, "a stranger", "k7")
	time.Sleep(1200 * time.Millisecond)
	e.put(t, e.destination, "young", 0, "a stranger", "other")
	e.double(t, "unharmed")
	e.put(t, e.destination, "stranger", old, "a stranger", "never seen", "k3")

	d := awaitMirrorState(t, e.k, "lost", "FAILED", "RECORDS_COMPACTED")
	if !strings.Contains(d.ErrorMessage, "2 keys") || !strings.Contains(d.ErrorMessage, `source offset 7 (key "k7")`) {
		t.Errorf("%+v", d)
	}
	// Of a segment that can be cleaned at once klink may hold the cleaner off in time, or not. It
	// is never silent.
	kafkatest.WaitFor(t, time.Minute, "klink to know who was faster", func() (bool, string) {
		d, err := describeMirror(t, e.k, "race")
		if err != nil || d.State == "ACTIVE" && (len(d.Notices) == 0 || strings.Contains(d.Notices[0], "klink is checking whether the cleaner")) {
			return false, fmt.Sprintf("%v %+v", err, d)
		}
		t.Logf("%s %s", d.State, d.Error)
		if d.State == "ACTIVE" {
			e.hasAll(t, "race")
		}
		return d.State == "ACTIVE" || d.Error == "RECORDS_COMPACTED", fmt.Sprintf("%+v", d)
	})
	e.k.MustCLI(t, "topic", "delete", "lost")
	kafkatest.WaitFor(t, time.Minute, "the topic to be gone", func() (bool, string) {
		topics, err := e.dst.ListTopics(e.ctx)
		return err == nil && !topics.Has("lost"), fmt.Sprint(err)
	})
	e.mirror(t, "lost")
	awaitMirror(t, e.k, e.source, "lost")
	e.awaitNotice(t, "lost", "")
	e.hasAll(t, "lost")
	if lag := e.topicConfigValue(t, "lost", "min.compaction.lag.ms"); lag != "600000" {
		t.Errorf("min.compaction.lag.ms of a mirror that was created anew is %s", lag)
	}
	for _, topic := range []string{"young", "unharmed", "stranger"} {
		e.awaitRest(t, topic)
		kafkatest.WaitFor(t, time.Minute, "klink to know that nothing is lost of "+topic, func() (bool, string) {
			d, err := describeMirror(t, e.k, topic)
			return err == nil && d.State == "ACTIVE" && !strings.Contains(strings.Join(d.Notices, " "), "klink is checking whether the cleaner"), fmt.Sprintf("%v %+v", err, d)
		})
		e.hasAll(t, topic)
	}
}

// TestCleanerOfATopicThatBecomesCompacted: what is void in the log of a mirror from before its
// source was compacted is not forgotten.
func TestCleanerOfATopicThatBecomesCompacted(t *testing.T) {
	t.Parallel()
	e := newCleaned(t)
	e.createSource(t, "late", 1, "segment.ms=1000")
	e.put(t, e.source, "late", 0, "source", keys(0, 50)...)
	e.mirror(t, "late")
	awaitMirror(t, e.k, e.source, "late")
	e.put(t, e.destination, "late", 0, "a stranger", "k7")
	e.roll(t, "late", 0)
	e.awaitNotice(t, "late", "are void")
	setConfig(e.ctx, t, e.adm, "late", "cleanup.policy", "compact")
	e.awaitRest(t, "late")
	pause(e.ctx, 2*time.Second)
	e.hasAll(t, "late")
	want := readFranz(t, e.source.Bootstrap(), "late", 0)
	e.k.MustCLI(t, "mirror", "promote", "late")
	e.awaitCleaned(t, "late")
	got := readFranz(t, e.k.Bootstrap(), "late", 0)
	e.sameTable(t, "through klink", append(want, record{key: "turn", value: latest(got)["turn"]}), got)
}

// TestCleanerRestsWhereNobodyLooks: a mirror that is paused is not compacted. Otherwise
// min.compaction.lag.ms is the source's, or what klink needs, whichever is longer, and the source's
// once mirroring has stopped.
func TestCleanerRestsWhereNobodyLooks(t *testing.T) {
	t.Parallel()
	e := newCleaned(t)
	e.table(t, "table", 0)
	is := func(what, min, max string) {
		t.Helper()
		kafkatest.WaitFor(t, time.Minute, "the lags of a mirror: "+what, func() (bool, string) {
			now := [2]string{e.topicConfigValue(t, "table", "min.compaction.lag.ms"), e.topicConfigValue(t, "table", "max.compaction.lag.ms")}
			return now == [2]string{min, max}, fmt.Sprint(now)
		})
	}
	is("at first", "600000", never)
	setConfig(e.ctx, t, e.adm, "table", "max.compaction.lag.ms", "1000")
	is("the source's maximum is below it", "600000", "600000")
	setConfig(e.ctx, t, e.adm, "table", "max.compaction.lag.ms", "7200000")
	setConfig(e.ctx, t, e.adm, "table", "min.compaction.lag.ms", "3600000")
	is("the source's is longer", "3600000", "7200000")
	e.k.MustCLI(t, "mirror", "pause", "table")
	is("paused", never, never)
	e.put(t, e.destination, "table", 24*time.Hour, "a stranger", "k7")
	e.put(t, e.destination, "table", 23*time.Hour, "a stranger", "other")
	pause(e.ctx, 3*time.Second)
	e.hasAll(t, "table")
	setConfig(e.ctx, t, e.dst, "table", "min.compaction.lag.ms", "0") // around klink
	is("set back around klink", never, never)
	e.k.MustCLI(t, "mirror", "resume", "table")
	e.awaitRest(t, "table")
	e.hasAll(t, "table")
	e.k.MustCLI(t, "mirror", "promote", "table")
	is("stopped", "3600000", "7200000")
	e.hasAll(t, "table")
}

// TestCleanerWhenTheOwnerDies: what is void in a compacted mirror is known to every instance. Where
// the owner dies while the mirror is stopped, another one appends what counts anew.
func TestCleanerWhenTheOwnerDies(t *testing.T) {
	t.Parallel()
	e := newCleaned(t)
	all := append(instances{e.k}, StartKlink(t, e.destination))
	e.table(t, "table", 0)
	all.awaitSpread(t)
	owner := all.owner(t, "table")
	e.k = all.without(owner)[0] // who is asked from now on
	e.put(t, e.destination, "table", 0, "a stranger", keys(0, 20)...)
	e.put(t, e.destination, "table", 0, "", keys(20, 30)...)
	e.roll(t, "table", 0)
	e.awaitRest(t, "table")
	want := readFranz(t, e.source.Bootstrap(), "table", 0)
	stop := e.k.StartCLI(t, nil, "mirror", "failover", "table")
	kafkatest.WaitFor(t, time.Minute, "the stop to begin", func() (bool, string) {
		d, err := describeMirror(t, e.k, "table")
		return err == nil && strings.HasSuffix(d.State, "STOPPED"), fmt.Sprintf("%v %+v", err, d)
	})
	owner.Kill()
	<-stop.Done()
	awaitMirrorState(t, e.k, "table", "STOPPED", "")
	e.sameTable(t, "at first", want, readFranz(t, e.k.Bootstrap(), "table", 0))
	e.awaitCleaned(t, "table")
	got := readFranz(t, e.k.Bootstrap(), "table", 0)
	want = append(want, record{key: "turn", value: latest(got)["turn"]})
	e.sameTable(t, "through klink", want, got)
	e.sameTable(t, "at the broker", want, readFranz(t, e.destination.Bootstrap(), "table", 0))
	owner.Restart()
}
