package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// seeksByTimestamp: a lookup of an offset by timestamp through klink leads to the same record as at the source, in mirrors
// of topics with transactions, whose markers at the destination are younger than all of the backlog, and in one with
// LogAppendTime, whose records have older timestamps of their own.
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
		if i%(1+len(records)/60) == 0 {
			timestamps = append(timestamps, r.timestamp)
		}
	}
	slices.Sort(timestamps)
	for _, ts := range slices.Compact(timestamps) {
		want := e.firstRecords(t, src, records, topic, partitions, ts)
		got := e.firstRecords(t, through, records, topic, partitions, ts)
		if !slices.Equal(want, got) {
			t.Errorf("%s: looking for timestamp %d leads to the records %v, at the source to %v", topic, ts, got, want)
		}
	}
}

// firstRecords are the offsets of the records that a consumer reads first after looking for a timestamp; a source may
// answer with the offset of a transaction marker.
func (e *exact) firstRecords(t *testing.T, cl *kgo.Client, records []record, topic string, partitions int32, timestamp int64) []string {
	t.Helper()
	out := make([]string, partitions)
	for p, offset := range strings.Fields(listOffsets(e.ctx, t, cl, topic, partitions, timestamp)) {
		at, err := strconv.ParseInt(offset, 10, 64)
		if err != nil {
			t.Fatalf("%s-%d, timestamp %d: %s", topic, p, timestamp, offset)
		}
		i := slices.IndexFunc(records, func(r record) bool { return int(r.partition) == p && r.offset >= at })
		if out[p] = "none"; at >= 0 && i >= 0 {
			out[p] = fmt.Sprint(records[i].offset)
		}
	}
	return out
}
