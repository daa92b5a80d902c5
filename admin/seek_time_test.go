package admin

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// timed appends a batch of records with these timestamps at a logical offset; logical < 0 = somebody else's. A marker has
// one timestamp.
func (w *lookWorld) timed(logical int64, marker bool, timestamps ...int64) {
	w.t.Helper()
	var body []byte
	highest := timestamps[0]
	for i, ts := range timestamps {
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: ts - timestamps[0], Value: fmt.Appendf(nil, "record %d", i)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		body = r.AppendTo(body)
		highest = max(highest, ts)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(timestamps) - 1), FirstTimestamp: timestamps[0], MaxTimestamp: highest,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(timestamps)), Records: body,
	}
	rb.Length = int32(49 + len(body))
	b := rb.AppendTo(nil)
	seal := func() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli))) }
	seal()
	if logical >= 0 {
		require.NoError(w.t, batch.Stamp(b, logical, 0))
	}
	if marker {
		binary.BigEndian.PutUint16(b[51:], uint16(batch.FlagFiller)) // this cluster takes no control batches
		seal()
	}
	appendRaw(w.t, w.client, "orders", 1, b)
}

func TestSeekTime(t *testing.T) {
	w := newLookWorld(t)
	w.timed(100, false, 10, 11, 12)    // physical 0
	w.timed(103, true, 9000)           // 3
	w.timed(104, false, 20, 25, 23)    // 4
	w.timed(107, true, 9001)           // 7
	w.timed(-1, false, 40, 40, 40)     // 8, hidden
	w.timed(108, false, 30, 31)        // 11
	w.timed(110, true, 9002)           // 13
	w.timed(111, false, 50, 9500, 60)  // 14
	line := timeline.Open(0, 100, 100) // physical 17 is the end
	require.NoError(t, line.Hide(8, 11))

	for _, c := range []struct{ found, asked, want, wantsAt int64 }{
		{0, 11, 0, -1},         // a record: the broker is right, without a second look
		{4, 21, 4, -1},         // so it is here, wherever in the batch
		{3, 20, 4, 20},         // a marker: behind it
		{3, 21, 5, 25},         // inside a batch
		{3, 24, 5, 25},         // not the last of the batch
		{3, 26, 11, 30},        // not what is hidden
		{3, 31, 12, 31},        // over several markers
		{3, 40, 14, 50},        // not what is hidden
		{3, 51, 15, 9500},      // younger than the markers
		{13, 9002, 15, 9500},   // from the last marker on
		{8, 40, 14, 50},        // the broker has found what is hidden
		{3, 9501, -1, -1},      // none
		{7, 10_000, -1, -1},    // none
		{3, 0, 4, 20},          // whatever was asked for
		{13, 40, 14, 50},       //
		{11, 31, 11, -1},       //
		{16, 60, 16, -1},       //
		{15, 9400, 15, -1},     //
		{14, 50, 14, -1},       //
		{7, 23, 11, 30},        //
		{7, 1, 11, 30},         //
		{13, 51, 15, 9500},     //
		{13, 9500, 15, 9500},   //
		{13, 9501, -1, -1},     //
		{3, 1<<62 - 1, -1, -1}, //
		{10, 40, 14, 50},       // in the middle of what is hidden
	} {
		got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, c.found, c.asked)
		require.NoError(t, err)
		require.Equal(t, [2]int64{c.want, c.wantsAt}, [2]int64{got, at}, "looking for %d, found at %d", c.asked, c.found)
	}

	// A log is not read without an end for it: the answer is then where the search has come to.
	w.facts.maxSeek = 1
	got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, 3, 9500)
	require.NoError(t, err)
	require.Equal(t, [2]int64{4, -1}, [2]int64{got, at})
	w.facts.maxSeek = 300
	got, at, err = w.facts.SeekTime(context.Background(), "orders", 1, line, 3, 9500)
	require.NoError(t, err)
	require.Equal(t, int64(-1), at)
	require.Greater(t, got, int64(4))
	require.Less(t, got, int64(15))

	w.facts.maxSeek = maxSeekBytes
	_, _, err = w.facts.SeekTime(context.Background(), "orders", 7, line, 3, 9500)
	require.ErrorContains(t, err, "orders-7")
}
