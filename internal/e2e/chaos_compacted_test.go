package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// busyCleaner makes a broker compact a topic while it is written to.
func busyCleaner() map[string]string {
	return map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "3000"}
}

// readJavaUntil reads with Kafka's console consumer until the last record of each partition that
// has one has come. How many there are before cannot be told of a compacted topic; the last is
// never compacted away.
func readJavaUntil(t testing.TB, bootstrap, topic string, last map[int32]int64) []record {
	t.Helper()
	tool := kafkatest.StartTool(t, nil, kafkatest.ConsoleConsumer, javaArguments(t, bootstrap, topic)...)
	defer tool.Kill()
	var got []record
	kafkatest.WaitFor(t, 2*time.Minute, "the console consumer to come to the end of "+topic, func() (bool, string) {
		got = javaRecords(tool.Stdout())
		at := map[int32]int64{}
		for _, r := range got {
			at[r.partition] = r.offset
		}
		pause(t.Context(), 300*time.Millisecond)
		return maps.Equal(at, last), fmt.Sprintf("at %v of %v; %s", at, last, tool.Stderr())
	})
	return got
}

// journal is what a load knows to be in the log of a compacted topic, or to have been there: each
// acknowledged record.
type journal struct {
	mu      sync.Mutex
	records map[place]record
}

type place struct {
	partition int32
	offset    int64
}

func (j *journal) note(r *kgo.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.records == nil {
		j.records = map[place]record{}
	}
	j.records[place{partition: r.Partition, offset: r.Offset}] = toRecord(r)
}

// assertKnown fails the test where a client was shown a record that is not the one acknowledged for
// its offset. Records whose acknowledgement was lost are not known; how many are is returned.
func (j *journal) assertKnown(t testing.TB, what string, got []record) (known int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	wrong := 0
	for _, r := range got {
		is, ok := j.records[place{partition: r.partition, offset: r.offset}]
		if !ok {
			continue
		}
		if known++; is != r {
			t.Errorf("%s: got %+v, acknowledged was %+v", what, r, is)
			if wrong++; wrong > 5 {
				t.Fatalf("%s: too much is wrong", what)
			}
		}
	}
	return known
}

// loadCompacted writes few keys over and over, with tombstones.
func loadCompacted(ctx context.Context, l *chaosRun) {
	l.produce(ctx, func(i int) *kgo.Record {
		r := &kgo.Record{
			Topic: l.load.topic, Partition: int32(l.rng.IntN(int(l.load.partitions))), Key: fmt.Appendf(nil, "k%d", l.rng.IntN(100)),
			Value: fmt.Appendf(nil, "%d %s", i, strings.Repeat("v", l.rng.IntN(200))), Timestamp: time.UnixMilli(baseTime + int64(i)),
		}
		if l.rng.IntN(10) == 0 {
			r.Value = nil
		}
		return r
	})
}

// assertCompactedAlike compares two logs of a compacted topic, whose cleaners work each at its own
// pace: a record that both have is the same, and so is the last record of each key. So a record
// that only one of them has is superseded.
func assertCompactedAlike(t testing.TB, what string, want, got []record) {
	t.Helper()
	type owner struct {
		partition int32
		key       string
	}
	at := map[place]record{}
	lastWanted, last := map[owner]record{}, map[owner]record{}
	for _, r := range want {
		at[place{partition: r.partition, offset: r.offset}] = r
		lastWanted[owner{r.partition, r.key}] = r
	}
	wrong, common := 0, 0
	for i, r := range got {
		if i > 0 && got[i-1].partition == r.partition && got[i-1].offset >= r.offset {
			t.Fatalf("%s: offset %d after %d in partition %d", what, r.offset, got[i-1].offset, r.partition)
		}
		last[owner{r.partition, r.key}] = r
		if w, ok := at[place{partition: r.partition, offset: r.offset}]; ok {
			common++
			if w != r {
				wrong++
				t.Errorf("%s: want %+v, got %+v", what, w, r)
			}
		}
		if wrong > 5 {
			t.Fatalf("%s: too much is wrong", what)
		}
	}
	for o, w := range lastWanted {
		if g := last[o]; g != w && wrong <= 5 {
			wrong++
			t.Errorf("%s: the last record of key %s in partition %d: want %+v, got %+v", what, o.key, o.partition, w, g)
		}
	}
	if len(last) != len(lastWanted) || common == 0 {
		t.Errorf("%s: %d keys, want %d; %d records in common", what, len(last), len(lastWanted), common)
	}
}

func TestCompactedAlike(t *testing.T) {
	t.Parallel()
	source := []record{{offset: 3, key: "a", value: "3"}, {offset: 5, key: "b", value: "5"}, {offset: 6, key: "a", value: "6"}}
	for _, tc := range []struct {
		name   string
		mirror []record
		alike  bool
	}{
		{"the same", source, true},
		{"cleaned further", source[1:], true},
		{"cleaned less", append([]record{{offset: 1, key: "b", value: "1"}}, source...), true},
		{"another value", []record{source[0], source[1], {offset: 6, key: "a", value: "7"}}, false},
		{"a key is missing", source[2:], false},
		{"the last record is missing", source[:2], false},
		{"another offset", []record{source[0], source[1], {offset: 7, key: "a", value: "6"}}, false},
		{"a key too many", append([]record{{offset: 1, key: "c", value: "1"}}, source...), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			said := &quiet{TB: t}
			assertCompactedAlike(said, tc.name, source, tc.mirror)
			if said.failed == tc.alike {
				t.Errorf("alike: %v, want %v", !said.failed, tc.alike)
			}
		})
	}
}

// quiet notes errors instead of failing.
type quiet struct {
	testing.TB
	failed bool
}

func (q *quiet) Errorf(string, ...any) { q.failed = true }
