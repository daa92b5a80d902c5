package facts

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"testing"
	"time"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// timed appends a batch of records with these timestamps at a logical offset; logical < 0 = a batch
// that is not klink's. A marker has one timestamp.
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
	batchtest.AppendInPlace(w.t, w.client, "orders", 1, b)
}

func TestSeekTime(t *testing.T) {
	w := newLookWorld(t)
	w.timed(100, false, 10, 11, 12)    // physical 0
	w.timed(103, true, 9000)           // 3
	w.timed(104, false, 20, 25, 23)    // 4
	w.timed(107, true, 9001)           // 7
	w.timed(-1, false, 40, 40, 40)     // 8, void
	w.timed(108, false, 30, 31)        // 11
	w.timed(110, true, 9002)           // 13
	w.timed(111, false, 50, 9500, 60)  // 14
	line := timeline.Open(0, 100, 100) // physical 17 is the end

	for _, c := range []struct{ found, asked, want, wantsAt int64 }{
		{0, 11, 0, -1},         // a record: the broker is right, without a second look
		{4, 21, 4, -1},         // so it is here, wherever in the batch
		{3, 20, 4, 20},         // a marker: behind it
		{3, 21, 5, 25},         // inside a batch
		{3, 24, 5, 25},         // not the last of the batch
		{3, 26, 11, 30},        // not what is void
		{3, 31, 12, 31},        // over several markers
		{3, 40, 14, 50},        // not what is void
		{3, 51, 15, 9500},      // younger than the markers
		{13, 9002, 15, 9500},   // from the last marker on
		{8, 40, 14, 50},        // the broker has stopped at a void batch
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
		{10, 40, 14, 50},       // in the middle of what is void
	} {
		got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, c.found, c.asked)
		require.NoError(t, err)
		require.Equal(t, [2]int64{c.want, c.wantsAt}, [2]int64{got, at}, "looking for %d, found at %d", c.asked, c.found)
	}

	// The search reads a log only up to a limit. Then the answer is the offset that it has reached.
	w.facts.maxSeek = 1
	got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, 3, 9500)
	require.NoError(t, err)
	require.Equal(t, [2]int64{4, -1}, [2]int64{got, at})
	w.now.Add(soughtFor.Milliseconds())
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

// Behind the end of a stopped mirror the search finds the topic's own records, and not batches of
// the mirror that came too late.
func TestSeekTimeBehindTheEnd(t *testing.T) {
	w := newLookWorld(t)
	w.timed(100, true, 9000)   // physical 0
	w.timed(101, false, 20)    // 1, the last one of the mirror
	w.timed(102, false, 50)    // 2, late
	w.timed(-1, false, 40, 60) // 3, its own
	line := timeline.Open(0, 100, 100)
	line.End(2, 102, false)
	for asked, want := range map[int64]int64{20: 1, 30: 3, 50: 4, 70: -1} {
		got, _, err := w.facts.SeekTime(context.Background(), "orders", 1, line, 0, asked)
		require.NoError(t, err)
		require.Equal(t, want, got, "looking for %d", asked)
	}
}

// packed appends a stamped batch of n records of size zero bytes each, compressed. Record i has the
// timestamp first+i.
func (w *lookWorld) packed(logical int64, codec int16, n, size int, first int64) {
	w.t.Helper()
	var out bytes.Buffer
	var z io.WriteCloser
	switch codec {
	case 1:
		z, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed)
	case 3:
		z = lz4.NewWriter(&out)
	case 4:
		z, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	}
	for i := range n {
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: int64(i), Value: make([]byte, size)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		encoded := r.AppendTo(nil)
		r.Length = int32(len(encoded) - len(binary.AppendVarint(nil, int64(r.Length))))
		_, err := z.Write(r.AppendTo(nil))
		require.NoError(w.t, err)
	}
	require.NoError(w.t, z.Close())
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: codec, LastOffsetDelta: int32(n - 1), FirstTimestamp: first, MaxTimestamp: first + int64(n) - 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: out.Bytes(),
	}
	rb.Length = int32(49 + out.Len())
	b := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	require.NoError(w.t, batch.Stamp(b, logical, 0))
	batchtest.AppendInPlace(w.t, w.client, "orders", 1, b)
}

func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A search in a small batch that decompresses to hundreds of megabytes costs bounded memory, and
// its answer misses no record. A match early in the batch is found.
func TestSeekTimeInABomb(t *testing.T) {
	const size, records = 1 << 20, 200
	for _, codec := range []int16{1, 3, 4} {
		t.Run(fmt.Sprint("codec ", codec), func(t *testing.T) {
			w := newLookWorld(t)
			w.timed(100, true, 9000)                    // physical 0
			w.packed(101, codec, records, size, 10)     // 1
			w.timed(101+records, false, 10_000, 10_001) // 201
			line := timeline.Open(0, 100, 100)
			seek := func(timestamp int64) (got, at int64) {
				got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, 0, timestamp)
				require.NoError(t, err)
				return got, at
			}
			seek(9999) // whatever comes with the first one
			for _, c := range []struct{ asked, want, wantsAt int64 }{
				{12, 3, 12}, {10 + records - 1, 1, -1}, {10_000, 1 + records, 10_000},
			} {
				var got, at int64
				cost := allocated(func() { got, at = seek(c.asked) })
				require.Equal(t, [2]int64{c.want, c.wantsAt}, [2]int64{got, at}, "looking for %d", c.asked)
				require.Less(t, cost, uint64(batch.MaxScanMemory+16<<20), "looking for %d", c.asked)
				// The least of three counts: others in this process may allocate meanwhile.
				cost = math.MaxUint64
				for range 3 {
					cost = min(cost, allocated(func() { got, at = seek(c.asked) }))
					require.Equal(t, [2]int64{c.want, c.wantsAt}, [2]int64{got, at}, "again %d", c.asked)
				}
				require.Less(t, cost, uint64(1<<20), "again %d", c.asked)
			}
		})
	}
}

// A search that found nothing is not the answer to later ones: they find what has come since, and
// begin where the last one ended.
func TestSeekTimeRemembers(t *testing.T) {
	w := newLookWorld(t)
	w.timed(100, true, 9000)    // physical 0
	w.timed(101, false, 20, 25) // 1
	w.timed(103, false, 30, 31) // 3
	line := timeline.Open(0, 100, 100)
	fetches := func(asked, want, wantsAt int64) (n int) {
		t.Helper()
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			n++
			return nil, nil, false
		})
		got, at, err := w.facts.SeekTime(context.Background(), "orders", 1, line, 0, asked)
		require.NoError(t, err)
		require.Equal(t, [2]int64{want, wantsAt}, [2]int64{got, at})
		return n
	}
	require.Positive(t, fetches(100, -1, -1))
	require.Positive(t, fetches(25, 2, 25))
	require.Zero(t, fetches(25, 2, 25), "what was found a moment ago")
	w.timed(105, false, 99, 100) // 5
	require.Positive(t, fetches(100, 6, 100), "what has come since")
	require.Zero(t, fetches(100, 6, 100))
	w.now.Add(soughtFor.Milliseconds())
	require.Positive(t, fetches(25, 2, 25), "later")
}

// Searches for the same key run one after the other, and at most maxSeeks run at a time.
func TestSeeksAreBounded(t *testing.T) {
	s := newSeeks()
	ctx, cancel := context.WithCancel(context.Background())
	line := timeline.Open(0, 0, 0)
	var leaves []func()
	for i := range int64(maxSeeks) {
		_, leave, err := s.enter(ctx, seekKey{"t", 0, line, 0, i}, time.Now)
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	gone, leaveNow := context.WithCancel(ctx)
	leaveNow()
	_, _, err := s.enter(gone, seekKey{"t", 0, line, 0, maxSeeks}, time.Now)
	require.ErrorIs(t, err, context.Canceled, "one more")
	leaves[0]()
	_, leave, err := s.enter(ctx, seekKey{"t", 0, line, 0, maxSeeks}, time.Now)
	require.NoError(t, err)
	_, _, err = s.enter(gone, seekKey{"t", 0, line, 0, maxSeeks}, time.Now)
	require.ErrorIs(t, err, context.Canceled, "the same")
	s.remember(seekKey{"t", 0, line, 0, maxSeeks}, seekResult{at: 7, found: 8}, time.Now())
	last, _, err := s.enter(gone, seekKey{"t", 0, line, 0, maxSeeks}, time.Now)
	require.NoError(t, err)
	require.Equal(t, int64(7), last.at)
	leave()
	for _, leave := range leaves[1:] {
		leave()
	}
	cancel()
	require.Empty(t, s.running)
}
