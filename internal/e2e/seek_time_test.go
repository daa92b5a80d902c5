package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// seeksByTimestamp: a lookup of an offset by timestamp through klink finds the first record of the
// source with that timestamp or a later one, in mirrors of topics with transactions, whose markers
// at the destination are younger than all of the backlog, and in one with LogAppendTime, whose
// records have older timestamps of their own.
func (e *exact) seeksByTimestamp(t *testing.T) {
	e.createSource(t, "appended", 1, "message.timestamp.type=LogAppendTime")
	produceVaried(e.ctx, t, e.source, "appended", 0, 120)
	e.mirror(t, "appended")
	awaitMirror(t, e.k, e.source, "appended")
	e.wantSeeks(t, "appended", 1)
	e.wantSeeks(t, "ledger", 4)
}

// wantSeeks looks for the timestamps of some records, and for one before and one after all.
func (e *exact) wantSeeks(t *testing.T, topic string, partitions int32) {
	t.Helper()
	records := readCommitted(t, e.source.Bootstrap(), topic)
	src, through := e.source.Client(t), kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap()))
	timestamps := []int64{0, time.Now().Add(time.Hour).UnixMilli()}
	for i, r := range records {
		if i%(1+len(records)/40) == 0 {
			timestamps = append(timestamps, r.timestamp)
		}
	}
	slices.Sort(timestamps)
	for _, ts := range slices.Compact(timestamps) {
		found := strings.Fields(listOffsets(e.ctx, t, through, topic, partitions, ts))
		atSource := strings.Fields(listOffsets(e.ctx, t, src, topic, partitions, ts))
		for p := range partitions {
			want := int64(-1)
			if i := slices.IndexFunc(records, func(r record) bool { return r.partition == p && r.timestamp >= ts }); i >= 0 {
				want = records[i].offset
			}
			if found[p] != fmt.Sprint(want) {
				t.Errorf("%s-%d: looking for timestamp %d finds offset %s, want %d; at the source %s", topic, p, ts, found[p], want, atSource[p])
			}
			// The source may name a transaction marker of its own, before the record.
			if want >= 0 && (atoi(atSource[p]) > want || atoi(atSource[p]) < 0) {
				t.Errorf("%s-%d: looking for timestamp %d finds offset %s at the source, want %d at most", topic, p, ts, atSource[p], want)
			}
		}
	}
}
