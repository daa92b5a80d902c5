package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// compressed is what franz-go's producer makes of src.
func compressed(t require.TestingT, codec int8, src []byte) []byte {
	all := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	if codec == 0 {
		return src
	}
	c, err := kgo.DefaultCompressor(all[codec])
	require.NoError(t, err)
	out, used := c.Compress(new(bytes.Buffer), src)
	require.Equal(t, codec, int8(used))
	return bytes.Clone(out)
}

func decompressed(t require.TestingT, codec int8, src []byte) []byte {
	out, err := kgo.DefaultDecompressor().Decompress(bytes.Clone(src), kgo.CompressionCodecType(codec))
	require.NoError(t, err)
	return out
}

// kmsgBatch makes a batch by franz-go's encoder; offsets are by the records' deltas.
func kmsgBatch(t require.TestingT, base int64, attributes int16, lastDelta int32, records []kmsg.Record) Header {
	var raw []byte
	for _, r := range records {
		raw = r.AppendTo(raw)
	}
	b := Header(newBatch(base, attributes, int32(len(records)), compressed(t, int8(attributes&codecMask), raw)))
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(lastDelta))
	fixCRC(b)
	return b
}

func makeRecord(delta int32, timestamp int64, key, value []byte, headers ...kmsg.Header) kmsg.Record {
	r := kmsg.NewRecord()
	r.OffsetDelta, r.TimestampDelta64, r.Key, r.Value, r.Headers = delta, timestamp, key, value, headers
	body := r.AppendTo(nil)
	r.Length = int32(len(body) - 1)
	return r
}

func drawBytes(t *rapid.T, label string) []byte {
	switch rapid.IntRange(0, 5).Draw(t, label+" kind") {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return bytes.Repeat([]byte{'a'}, rapid.IntRange(60, 9000).Draw(t, label+" size"))
	}
	return rapid.SliceOfN(rapid.Byte(), 1, 70).Draw(t, label)
}

// drawThinned draws a batch that compaction has thinned, with its records.
func drawThinned(t *rapid.T) (Header, []kmsg.Record) {
	var records []kmsg.Record
	delta := int32(-1)
	for range rapid.IntRange(1, 40).Draw(t, "records") {
		delta += int32(rapid.SampledFrom([]int{1, 1, 1, 1, 2, 70, 9000}).Draw(t, "step"))
		var headers []kmsg.Header
		for range rapid.SampledFrom([]int{0, 0, 1, 70}).Draw(t, "headers") {
			headers = append(headers, kmsg.Header{Key: "h", Value: drawBytes(t, "header")})
		}
		timestamp := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.Int64()).Draw(t, "timestamp")
		records = append(records, makeRecord(delta, timestamp, drawBytes(t, "key"), drawBytes(t, "value"), headers...))
	}
	last := delta + int32(rapid.SampledFrom([]int{0, 1, 1000}).Draw(t, "behind"))
	attributes := rapid.SampledFrom([]int16{0, bitLogAppendTime, bitTransactional, bitDeleteHorizon}).Draw(t, "attributes")
	attributes |= int16(rapid.IntRange(0, 4).Draw(t, "codec"))
	base := rapid.SampledFrom([]int64{0, 5, 1 << 40, maxLogicalBase - 1<<20}).Draw(t, "base")
	return kmsgBatch(t, base, attributes, last, records), records
}

func allRuns(t require.TestingT, r *Recoder, b Header, from int64) (runs []Header) {
	require.NoError(t, r.Runs(b, from, func(run Header) error {
		runs = append(runs, append(Header(nil), run...))
		return nil
	}))
	return runs
}

// TestRunsKeepEveryRecord: for any thinned batch, its runs have all of its records, with every part
// unchanged. Each run begins behind a gap.
func TestRunsKeepEveryRecord(t *testing.T) {
	var r Recoder
	rapid.Check(t, func(t *rapid.T) {
		b, records := drawThinned(t)
		source := append(Header(nil), b...)
		runs := allRuns(t, &r, b, 0)
		require.Equal(t, source, b, "the source's batch is not touched")
		if kind, err := Classify(b); err != nil || kind == Data {
			require.NoError(t, err)
			require.Equal(t, []Header{source}, runs)
			return
		}
		next, end := 0, int64(-1)
		for _, run := range runs {
			require.NoError(t, Check(append(Header(nil), clearLogAppendTime(run)...)))
			require.True(t, VerifyCRC(run))
			require.Greater(t, run.BaseOffset(), end, "maximal runs: a hole between two")
			end = run.NextOffset()
			require.Equal(t, b.Codec(), run.Codec())
			require.Equal(t, b.LogAppendTime(), run.LogAppendTime())
			require.Equal(t, b.LeaderEpoch(), run.LeaderEpoch())
			require.Equal(t, int64(-1), run.ProducerID())
			raw := decompressed(t, run.Codec(), run[HeaderSize:])
			require.LessOrEqual(t, len(raw), len(decompressed(t, b.Codec(), b[HeaderSize:])))
			maxTimestamp := int64(math.MinInt64)
			for i := range run.Count() {
				got, want := kmsg.NewRecord(), records[next]
				require.NoError(t, got.ReadFrom(raw))
				size, n := binary.Varint(raw)
				raw = raw[n+int(size):]
				require.Equal(t, i, got.OffsetDelta)
				require.Equal(t, b.BaseOffset()+int64(want.OffsetDelta), run.BaseOffset()+int64(i))
				require.Equal(t, b.BaseTimestamp()+want.TimestampDelta64, run.BaseTimestamp()+got.TimestampDelta64)
				require.Equal(t, want.Key, got.Key)
				require.Equal(t, want.Value, got.Value)
				require.True(t, slices.EqualFunc(want.Headers, got.Headers, func(x, y kmsg.Header) bool {
					return x.Key == y.Key && bytes.Equal(x.Value, y.Value) && (x.Value == nil) == (y.Value == nil)
				}))
				maxTimestamp = max(maxTimestamp, b.BaseTimestamp()+want.TimestampDelta64)
				next++
			}
			require.Empty(t, raw)
			if b.LogAppendTime() {
				maxTimestamp = b.MaxTimestamp()
			}
			require.Equal(t, maxTimestamp, run.MaxTimestamp())
		}
		require.Equal(t, len(records), next)

		// Resuming leaves out the runs below, and changes nothing of the others.
		from := rapid.Int64Range(b.BaseOffset(), b.NextOffset()+1).Draw(t, "from")
		kept := slices.DeleteFunc(slices.Clone(runs), func(run Header) bool { return run.NextOffset() <= from })
		require.Equal(t, len(kept), len(allRuns(t, &r, b, from)))
		for i, run := range allRuns(t, new(Recoder), b, from) {
			require.Equal(t, kept[i], run)
		}
	})
}

func clearLogAppendTime(b Header) Header {
	b = append(Header(nil), b...)
	b.setAttributes(b.Attributes() &^ bitLogAppendTime)
	return b
}

func TestRunsOfOtherKinds(t *testing.T) {
	var r Recoder
	data := kmsgBatch(t, 5, codecAttribute(codecZstd)|bitDeleteHorizon, 1, []kmsg.Record{
		makeRecord(0, -100, []byte("k"), nil), makeRecord(1, -99, []byte("l"), []byte("v")),
	})
	require.Equal(t, []Header{data}, allRuns(t, &r, data, 6), "data stays as it is, with a delete horizon too")
	require.Empty(t, allRuns(t, &r, data, 7))

	empty := Header(newBatch(5, 0, 0, nil))
	binary.BigEndian.PutUint32(empty[atLastOffsetDelta:], 9)
	fixCRC(empty)
	require.Empty(t, allRuns(t, &r, empty, 0))
	empty[atBaseSequence] ^= 1
	require.ErrorIs(t, r.Runs(empty, 0, nil), ErrCorrupt, "a hole is for good: it is not made of a damaged batch")

	control := newBatch(5, bitControl, 1, nil)
	require.ErrorIs(t, r.Runs(control, 0, nil), ErrControl)
	require.ErrorIs(t, r.Runs(control[:10], 0, nil), ErrMalformed)

	stop := errors.New("stop")
	require.Equal(t, stop, r.Runs(data, 0, func(Header) error { return stop }))
	thinned := kmsgBatch(t, 5, 0, 7, []kmsg.Record{makeRecord(0, 0, nil, nil), makeRecord(7, 0, nil, nil)})
	require.Equal(t, stop, r.Runs(thinned, 0, func(Header) error { return stop }))
}

func codecAttribute(codec int8) int16 { return int16(codec) }

// TestRunsRefuseHostileRecords: a batch has a correct header and checksum, but its records lie.
// Nothing of it is emitted.
func TestRunsRefuseHostileRecords(t *testing.T) {
	record := func(change func(r *kmsg.Record)) []byte {
		r := makeRecord(0, 0, []byte("key"), []byte("value"), kmsg.Header{Key: "h", Value: []byte("v")})
		change(&r)
		return r.AppendTo(nil)
	}
	good := record(func(*kmsg.Record) {})
	last := record(func(r *kmsg.Record) { r.OffsetDelta = 9 })
	bare := func(body ...byte) []byte { return append([]byte{byte(len(body)) << 1}, body...) }
	for _, c := range []struct {
		name    string
		records []byte
		codec   int8
		count   int32
		want    error
	}{
		{"good", slices.Concat(good, last), 0, 2, nil},
		{"no records", nil, 0, 2, ErrMalformed},
		{"fewer than the header says", good, 0, 2, ErrMalformed},
		{"more than the header says", slices.Concat(good, record(func(r *kmsg.Record) { r.OffsetDelta = 3 }), last), 0, 2, ErrMalformed},
		{"the same offset twice", slices.Concat(good, good), 0, 2, ErrMalformed},
		{"offsets backwards", slices.Concat(last, good), 0, 2, ErrMalformed},
		{"an offset beyond the last", slices.Concat(good, record(func(r *kmsg.Record) { r.OffsetDelta = 10 })), 0, 2, ErrMalformed},
		{"a negative offset", slices.Concat(record(func(r *kmsg.Record) { r.OffsetDelta = -1 }), last), 0, 2, ErrMalformed},
		{"a record longer than the batch", slices.Concat(good, record(func(r *kmsg.Record) { r.Length += 2 })), 0, 2, ErrMalformed},
		{"a record shorter than its fields", slices.Concat(good, record(func(r *kmsg.Record) { r.Length -= 2 })), 0, 2, ErrMalformed},
		{"a negative length", slices.Concat(good, []byte{1}), 0, 2, ErrMalformed},
		{"no length", slices.Concat(good, []byte{0x80}), 0, 2, ErrMalformed},
		{"a length that overflows", slices.Concat(good, bytes.Repeat([]byte{0xff}, 11)), 0, 2, ErrMalformed},
		{"an empty record", slices.Concat(good, bare()), 0, 2, ErrMalformed},
		{"no timestamp", slices.Concat(good, bare(0)), 0, 2, ErrMalformed},
		{"no offset", slices.Concat(good, bare(0, 0)), 0, 2, ErrMalformed},
		{"no key", slices.Concat(good, bare(0, 0, 18)), 0, 2, ErrMalformed},
		{"no value", slices.Concat(good, bare(0, 0, 18, 1)), 0, 2, ErrMalformed},
		{"no headers", slices.Concat(good, bare(0, 0, 18, 1, 1)), 0, 2, ErrMalformed},
		{"the least", slices.Concat(good, bare(0, 0, 18, 1, 1, 0)), 0, 2, nil},
		{"a key of length -2", slices.Concat(good, bare(0, 0, 18, 3, 1, 0)), 0, 2, ErrMalformed},
		{"a key beyond the record", slices.Concat(good, bare(0, 0, 18, 4, 1, 0)), 0, 2, ErrMalformed},
		{"-1 headers", slices.Concat(good, bare(0, 0, 18, 1, 1, 1)), 0, 2, ErrMalformed},
		{"a header that is not there", slices.Concat(good, bare(0, 0, 18, 1, 1, 2)), 0, 2, ErrMalformed},
		{"a header's key that is null", slices.Concat(good, bare(0, 0, 18, 1, 1, 2, 1, 1)), 0, 2, ErrMalformed},
		{"a byte too many", slices.Concat(good, bare(0, 0, 18, 1, 1, 0, 0)), 0, 2, ErrMalformed},
		{"gzip of nothing", nil, codecGzip, 2, ErrCorrupt},
		{"not gzip", good, codecGzip, 2, ErrCorrupt},
		{"not snappy", good, codecSnappy, 2, ErrCorrupt},
		{"not lz4", good, codecLZ4, 2, ErrCorrupt},
		{"not zstd", good, codecZstd, 2, ErrCorrupt},
		{"gzip cut off", compressed(t, codecGzip, slices.Concat(good, last))[:30], codecGzip, 2, ErrCorrupt},
		{"zstd", compressed(t, codecZstd, slices.Concat(good, last)), codecZstd, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := Header(newBatch(5, int16(c.codec), c.count, c.records))
			binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 9)
			fixCRC(b)
			emitted := 0
			err := new(Recoder).Runs(b, 0, func(Header) error { emitted++; return nil })
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, 2, emitted)
				return
			}
			require.ErrorIs(t, err, c.want)
			require.Zero(t, emitted)
			require.ErrorContains(t, err, "offset 5")
		})
	}
	t.Run("damage", func(t *testing.T) {
		b := kmsgBatch(t, 5, 0, 9, []kmsg.Record{makeRecord(0, 0, nil, []byte("value"))})
		b[len(b)-2] ^= 1
		require.ErrorIs(t, new(Recoder).Runs(b, 0, nil), ErrCorrupt)
	})
}
