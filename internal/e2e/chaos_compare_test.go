package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosSum is what was shown, over all topics.
type chaosSum struct {
	records  int // at the source
	compared int // comparisons of a record, by all clients
	watched  int // records that a client was shown during the faults, and that were compared
	direct   int // records compared around klink
}

// comparison is that of one topic with its source, when all is healed.
type comparison struct {
	run                 *chaosRun
	watcher             *watcher
	k                   *Klink
	source, destination *kafkatest.Cluster
}

// compare waits until the mirror has all and compares what three clients read through klink, and
// what a fourth was shown during the faults, with what the source has.
func (c *comparison) compare(ctx context.Context, t *testing.T, sum *chaosSum) {
	t.Helper()
	r, topic := c.run, c.run.load.topic
	if err := r.failed.Load(); err != nil {
		t.Logf("%s: the first record that could not be produced: %v", topic, *err)
	}
	r.lastWords(ctx, t)
	t.Logf("%s: %d records acknowledged, %d deletes, %d transactions", topic, r.acked.Load(), r.deleted.Load(), r.txns.Load())
	if len(r.deletes) > 0 {
		r.trimAgain(ctx, t)
	}
	awaitMirror(t, c.k, c.source, topic)
	c.awaitOffsets(ctx, t, "starts", -2)
	c.awaitOffsets(ctx, t, "ends", -1)
	want := c.truth(t)
	sum.records += len(want)
	for _, reader := range readers() {
		t.Run(topic+" by "+reader.name, func(t *testing.T) {
			if r.load.compacted {
				c.likewise(t, reader, want)
			} else {
				got := reader.read(t, c.k.Bootstrap(), topic, len(want))
				if p, o, differs := firstDifference(want, got); differs {
					explain(ctx, t, c.k, c.source, c.destination, r.load, p, o)
				}
				assertSame(t, topic+" by "+reader.name, want, got)
			}
		})
		sum.compared += len(want)
	}
	if r.load.compacted {
		sum.watched += c.watcher.compareKnown(t, &r.journal)
	} else {
		sum.watched += c.watcher.compare(t, want)
	}
	var d mirrorDescription
	kafkatest.WaitFor(t, time.Minute, "the description of "+topic, func() (bool, string) {
		var err error
		d, err = describeMirror(t, c.k, topic)
		return err == nil, fmt.Sprint(err)
	})
	sum.direct += c.directly(t, d, want)
	for _, p := range d.Partitions {
		t.Logf("%s-%d: aligned %v, shift %d from %d on %s", topic, p.Partition, p.Aligned, p.Shift, p.ShiftBegan, p.ShiftReason)
	}
}

// directly reads the destination's own logs, around klink, of the partitions that klink says are
// aligned: from the source's log start on they are the source's. The number of records compared is
// returned.
func (c *comparison) directly(t *testing.T, d mirrorDescription, want []record) int {
	t.Helper()
	if c.run.load.compacted {
		return 0
	}
	first, aligned := map[int32]int64{}, map[int32]bool{}
	for _, r := range want {
		if _, ok := first[r.partition]; !ok {
			first[r.partition] = r.offset
		}
	}
	for _, p := range d.Partitions {
		_, some := first[p.Partition]
		aligned[p.Partition] = p.Aligned && some
	}
	only := func(rs []record) (out []record) {
		for _, r := range rs {
			if aligned[r.partition] && r.offset >= first[r.partition] {
				out = append(out, r)
			}
		}
		return out
	}
	want = only(want)
	if len(want) > 0 {
		got := readFranzWith(t, c.run.load.topic, kgo.SeedBrokers(strings.Split(c.destination.Bootstrap(), ",")...))
		assertSame(t, c.run.load.topic+" around klink", want, only(got))
	}
	return len(want)
}

// likewise compares a compacted topic.
func (c *comparison) likewise(t *testing.T, reader reader, want []record) {
	t.Helper()
	topic := c.run.load.topic
	what := topic + " by " + reader.name
	var got []record
	if reader.name == "java" {
		last := map[int32]int64{}
		for _, r := range want {
			last[r.partition] = r.offset
		}
		got = readJavaUntil(t, c.k.Bootstrap(), topic, last)
	} else {
		got = reader.read(t, c.k.Bootstrap(), topic, len(want))
	}
	assertCompactedAlike(t, what, want, got)
	if c.run.journal.assertKnown(t, what, got) == 0 {
		t.Errorf("%s: none of %d records is one that was acknowledged", what, len(got))
	}
}

// truth is what the source has.
func (c *comparison) truth(t testing.TB) []record {
	t.Helper()
	return readFranzWith(t, c.run.load.topic, kgo.SeedBrokers(strings.Split(c.source.Bootstrap(), ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
}

// awaitOffsets waits until the mirror's log starts or ends are the source's. A leader may yet move,
// back to where it was before the faults.
func (c *comparison) awaitOffsets(ctx context.Context, t testing.TB, what string, timestamp int64) {
	t.Helper()
	l := c.run.load
	direct, through := c.source.Client(t), kafkatest.NewClient(t, kgo.SeedBrokers(c.k.Bootstrap()))
	defer direct.Close()
	defer through.Close()
	kafkatest.WaitFor(t, 2*time.Minute, "the log "+what+" of "+l.topic, func() (bool, string) {
		want, err := tryListOffsets(ctx, direct, l.topic, l.partitions, timestamp)
		got, err2 := tryListOffsets(ctx, through, l.topic, l.partitions, timestamp)
		ok := err == nil && err2 == nil && want == got && !strings.Contains(want, "error")
		return ok, fmt.Sprintf("the source says %s (%v), the mirror %s (%v)", want, err, got, err2)
	})
}

// firstDifference is the place of the first record that is not in both.
func firstDifference(want, got []record) (partition int32, offset int64, differs bool) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return got[i].partition, got[i].offset, true
		case i >= len(got) || want[i] != got[i]:
			return want[i].partition, want[i].offset, true
		}
	}
	return 0, 0, false
}
