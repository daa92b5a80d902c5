package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// watcher reads a mirror through klink while everything fails: what a client was shown, at any
// moment, must be what the source has at that offset when all is over, in order and without a gap.
type watcher struct {
	topic string
	seen  []record
	// jumps are what the client has said of its position while it moved elsewhere than to the next
	// record: why it began anew.
	jumps watcherLog
	stop  func()
}

// watcherLog keeps what a client logs of resets.
type watcherLog struct {
	mu    sync.Mutex
	lines []string
}

// Level implements kgo.Logger.
func (l *watcherLog) Level() kgo.LogLevel { return kgo.LogLevelInfo }

// Log implements kgo.Logger.
func (l *watcherLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	for _, about := range []string{"OFFSET_OUT_OF_RANGE", "reset", "data loss", "truncat", "epoch"} {
		if strings.Contains(msg, about) {
			l.note(fmt.Sprint(msg, " ", keyvals))
			return
		}
	}
}

func (l *watcherLog) note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, time.Now().Format("15:04:05.000 ")+line)
}

// explain logs the last jumps.
func (l *watcherLog) explain(t testing.TB, topic string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("what the client that watched %s has said of its position:\n%s", topic, strings.Join(l.lines[max(0, len(l.lines)-40):], "\n"))
}

func startWatcher(t testing.TB, k *Klink, topic string) *watcher {
	t.Helper()
	w := &watcher{topic: topic}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DialTimeout(5*time.Second), kgo.WithLogger(&w.jumps))
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			fetches.EachRecord(func(r *kgo.Record) { w.seen = append(w.seen, toRecord(r)) })
			fetches.EachError(func(topic string, partition int32, err error) {
				if lost, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
					w.jumps.note(fmt.Sprintf("%s-%d: %v", topic, partition, lost))
				}
			})
		}
	}()
	w.stop = func() { cancel(); <-done }
	t.Cleanup(w.stop)
	return w
}

func toRecord(r *kgo.Record) record {
	rec := record{
		partition: r.Partition, offset: r.Offset, timestampType: "CreateTime",
		timestamp: r.Timestamp.UnixMilli(), key: text(r.Key), value: text(r.Value),
	}
	if r.Attrs.TimestampType() == 1 {
		rec.timestampType = "LogAppendTime"
	}
	var hs []string
	for _, h := range r.Headers {
		hs = append(hs, h.Key+":"+string(h.Value))
	}
	rec.headers = strings.Join(hs, ",")
	return rec
}

func (w *watcher) explainFailure(t testing.TB) {
	t.Helper()
	if t.Failed() {
		w.jumps.explain(t, w.topic)
	}
}

// compareKnown is compare for a compacted topic, of which the source no longer has all that a
// client was shown.
func (w *watcher) compareKnown(t testing.TB, j *journal) int {
	t.Helper()
	w.stop()
	defer w.explainFailure(t)
	last, wrong := map[int32]int64{}, 0
	for _, r := range w.seen {
		before, ok := last[r.partition]
		last[r.partition] = r.offset
		if ok && r.offset <= before {
			t.Errorf("%s-%d: a client was shown offset %d after %d", w.topic, r.partition, r.offset, before)
			if wrong++; wrong > 5 {
				t.Fatalf("%s: too much is wrong", w.topic)
			}
		}
	}
	return j.assertKnown(t, w.topic+" during the faults", w.seen)
}

// compare checks what was seen with what the source has. Records that the source has deleted since
// cannot be compared; the number of those that could is returned.
func (w *watcher) compare(t testing.TB, want []record) int {
	t.Helper()
	w.stop()
	defer w.explainFailure(t)
	truth, first := map[place]record{}, map[int32]int64{}
	for _, r := range want {
		truth[place{partition: r.partition, offset: r.offset}] = r
		if _, ok := first[r.partition]; !ok {
			first[r.partition] = r.offset
		}
	}
	last := map[int32]int64{}
	compared, wrong := 0, 0
	for _, r := range w.seen {
		before, ok := last[r.partition]
		last[r.partition] = r.offset
		if ok && r.offset <= before {
			t.Errorf("%s-%d: a client was shown offset %d after %d", w.topic, r.partition, r.offset, before)
			wrong++
		}
		low, some := first[r.partition]
		if some && ok && before+1 != r.offset && before+1 >= low {
			for o := before + 1; o < r.offset; o++ {
				if missing, ok := truth[place{partition: r.partition, offset: o}]; ok {
					t.Errorf("%s-%d: a client was shown offset %d after %d, without %+v", w.topic, r.partition, r.offset, before, missing)
					wrong++
					break
				}
			}
		}
		if some && r.offset >= low {
			if is, ok := truth[place{partition: r.partition, offset: r.offset}]; !ok || is != r {
				t.Errorf("%s-%d: a client was shown %+v, the source has %+v", w.topic, r.partition, r, is)
				wrong++
			}
			compared++
		}
		if wrong > 5 {
			t.Fatalf("%s: too much is wrong", w.topic)
		}
	}
	return compared
}
