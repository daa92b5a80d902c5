package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// oldMessage encodes a message by the schema of the formats v0 and v1, crc and all.
func oldMessage(magic int8, offset int64, attributes int8, timestamp int64, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(magic), byte(attributes))
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	for _, field := range [][]byte{key, value} {
		if field == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
	}
	return fixMessage(b)
}

func fixMessage(b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// describeBatches is how the test cases below write batches down: base offset, timestamp type,
// timestamps, keys and values.
func describeBatches(t *testing.T, batches []Header) string {
	var lines []string
	for _, b := range batches {
		require.True(t, VerifyCRC(b))
		require.NoError(t, Check(clearLogAppendTime(b)))
		kind := "create"
		if b.LogAppendTime() {
			kind = "append"
		}
		line := fmt.Sprintf("%d %s", b.BaseOffset(), kind)
		for _, r := range readAsClient(t, b, 0) {
			show := func(s *string) string {
				if s == nil {
					return "null"
				}
				return *s
			}
			line += fmt.Sprintf(" %d@%d:%s=%s", r.Offset, r.Timestamp, show(r.Key), show(r.Value))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestConvert(t *testing.T) {
	k, v := []byte{0}, []byte{4} // "AA==" and "BA=="
	m := oldMessage
	wrap := func(magic int8, codec int8, offset int64, attributes int8, timestamp int64, inner ...[]byte) []byte {
		return m(magic, offset, codec|attributes, timestamp, nil, compressed(t, codec, slices.Concat(inner...)))
	}
	v2 := newBatch(9, 0, 1, makeRecordBytes(nil, []byte("later")))
	const appendTime = int8(bitLogAppendTime)
	for _, c := range []struct {
		name    string
		records []byte
		from    int64
		left    int // bytes not consumed
		next    int64
		want    string
	}{
		{name: "nothing"},
		{name: "v0", records: m(0, 7, 0, 0, k, v), next: 8, want: "7 create 7@-1:AA===BA=="},
		{name: "v0, nulls", records: m(0, 7, 0, 0, nil, nil), next: 8, want: "7 create 7@-1:null=null"},
		{name: "v0, empty", records: m(0, 7, 0, 0, []byte{}, []byte{}), next: 8, want: "7 create 7@-1:="},
		{name: "v0: bit 3 means nothing", records: m(0, 7, appendTime, 0, k, v), next: 8, want: "7 create 7@-1:AA===BA=="},
		{name: "v1", records: m(1, 7, 0, 1234, k, v), next: 8, want: "7 create 7@1234:AA===BA=="},
		{name: "v1, no timestamp", records: m(1, 7, 0, -1, k, v), next: 8, want: "7 create 7@-1:AA===BA=="},
		{name: "v1, LogAppendTime", records: m(1, 7, appendTime, 1234, k, v), next: 8, want: "7 append 7@1234:AA===BA=="},
		{
			name: "each message by itself", records: slices.Concat(m(1, 7, 0, 1, k, v), m(1, 8, 0, 2, k, v), m(1, 11, 0, 3, k, v)), next: 12,
			want: "7 create 7@1:AA===BA==\n8 create 8@2:AA===BA==\n11 create 11@3:AA===BA==",
		},
		{
			name: "from", records: slices.Concat(m(1, 7, 0, 1, k, v), m(1, 8, 0, 2, k, v), m(1, 11, 0, 3, k, v)), from: 8, next: 12,
			want: "8 create 8@2:AA===BA==\n11 create 11@3:AA===BA==",
		},
		{name: "cut off", records: slices.Concat(m(1, 7, 0, 1, k, v), m(1, 8, 0, 2, k, v)[:30]), left: 30, next: 8, want: "7 create 7@1:AA===BA=="},
		{name: "cut off before the magic", records: slices.Concat(m(1, 7, 0, 1, k, v), m(1, 8, 0, 2, k, v)[:16]), left: 16, next: 8, want: "7 create 7@1:AA===BA=="},
		{name: "only cut off", records: m(1, 8, 0, 2, k, v)[:30], from: 5, left: 30, next: 5},
		{name: "up to a later format", records: slices.Concat(m(0, 7, 0, 1, k, v), v2), left: len(v2), next: 8, want: "7 create 7@-1:AA===BA=="},
		{
			name: "v0 wrapper, absolute offsets", next: 9,
			records: wrap(0, codecGzip, 8, 0, 0, m(0, 7, 0, 0, k, v), m(0, 8, 0, 0, nil, v)),
			want:    "7 create 7@-1:AA===BA== 8@-1:null=BA==",
		},
		{
			name: "v1 wrapper, relative offsets", next: 9,
			records: wrap(1, codecSnappy, 8, 0, 5, m(1, 0, 0, 4, k, v), m(1, 1, 0, 5, nil, v)),
			want:    "7 create 7@4:AA===BA== 8@5:null=BA==",
		},
		{
			name: "v1 wrapper, LogAppendTime of the wrapper", next: 9,
			records: wrap(1, codecLZ4, 8, appendTime, 99, m(1, 0, 0, 4, k, v), m(1, 1, 0, 5, k, nil)),
			want:    "7 append 7@99:AA===BA== 8@99:AA===null",
		},
		{
			name: "v1 wrapper, compacted", next: 21,
			records: wrap(1, codecGzip, 20, 0, 9, m(1, 3, 0, 4, k, v), m(1, 4, 0, 9, k, v), m(1, 6, 0, 5, k, v)),
			want:    "17 create 17@4:AA===BA== 18@9:AA===BA==\n20 create 20@5:AA===BA==",
		},
		{
			name: "v0 wrapper, compacted, from the middle", from: 18, next: 21,
			records: wrap(0, codecGzip, 20, 0, 0, m(0, 3, 0, 0, k, v), m(0, 17, 0, 0, k, v), m(0, 18, 0, 0, k, v), m(0, 20, 0, 0, k, v)),
			want:    "17 create 17@-1:AA===BA== 18@-1:AA===BA==\n20 create 20@-1:AA===BA==",
		},
		{
			name: "wrapper below from", from: 9, next: 9,
			records: wrap(1, codecGzip, 8, 0, 0, m(1, 0, 0, 4, k, v)),
		},
		{
			name: "v0 lz4 with the header checksum of KAFKA-3160", next: 9,
			records: m(0, 8, codecLZ4, 0, nil, brokenLZ4(t, slices.Concat(m(0, 7, 0, 0, k, v), m(0, 8, 0, 0, k, v)))),
			want:    "7 create 7@-1:AA===BA== 8@-1:AA===BA==",
		},
		{
			name: "timestamps as far apart as can be", next: 9,
			records: wrap(1, codecGzip, 8, 0, 0, m(1, 0, 0, 9_000_000_000_000, k, v), m(1, 1, 0, -1, k, v)),
			want:    "7 create 7@9000000000000:AA===BA== 8@-1:AA===BA==", // franz-go knows no years after 2262
		},
		{name: "the highest offset", records: m(0, maxLogicalBase, 0, 0, k, v), next: math.MaxInt64, want: fmt.Sprintf("%d create %[1]d@-1:AA===BA==", int64(maxLogicalBase))},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Header
			before := bytes.Clone(c.records)
			n, next, err := new(Recoder).Convert(c.records, c.from, func(b Header) error {
				got = append(got, append(Header(nil), b...))
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, before, c.records)
			require.Equal(t, len(c.records)-c.left, n)
			require.Equal(t, max(c.next, c.from), next)
			require.Equal(t, c.want, describeBatches(t, got))
		})
	}
}

func makeRecordBytes(key, value []byte) []byte {
	r := makeRecord(0, 0, key, value)
	return r.AppendTo(nil)
}

// brokenLZ4 makes a frame as Kafka wrote it into format v0: the checksum of the header is over the
// magic too.
func brokenLZ4(t *testing.T, src []byte) []byte {
	frame, err := new(codecs).compress(nil, src, codecLZ4, 1<<30)
	require.NoError(t, err)
	frame[6] = byte(shortXXH32(frame[:6]) >> 8)
	_, err = new(codecs).decompress(nil, frame, codecLZ4, 1<<20)
	require.ErrorIs(t, err, ErrCorrupt, "a good reader finds that checksum wrong")
	return frame
}

func TestConvertRefuses(t *testing.T) {
	k, v := []byte("k"), []byte("v")
	m := oldMessage
	good := m(1, 3, 0, 0, k, v)
	wrapped := func(inner ...[]byte) []byte {
		return m(1, 8, codecGzip, 0, nil, compressed(t, codecGzip, slices.Concat(inner...)))
	}
	change := func(b []byte, f func(b []byte)) []byte {
		b = bytes.Clone(b)
		f(b)
		return b
	}
	length := func(n int32) func(b []byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[8:], uint32(n)) }
	}
	for _, c := range []struct {
		name    string
		records []byte
		want    error
	}{
		{"wrong checksum", change(good, func(b []byte) { b[len(b)-1]++ }), ErrCorrupt},
		{"magic -1", change(good, func(b []byte) { b[16] = 0xff }), ErrMalformed},
		{"length 0", change(good, length(0)), ErrMalformed},
		{"length -1", change(good, length(-1)), ErrMalformed},
		{"length of a v0 message", change(good, length(sizeOfV0-12)), ErrMalformed},
		{"length beyond 31 bits", change(good, length(math.MaxInt32)), ErrMalformed},
		{"negative offset", m(1, -1, 0, 0, k, v), ErrMalformed},
		{"offset beyond the highest", m(1, math.MaxInt64, 0, 0, k, v), ErrMalformed},
		{"key beyond the message", fixMessage(change(good, func(b []byte) { b[29] = 100 })), ErrMalformed},
		{"key of length -2", fixMessage(change(good, func(b []byte) { copy(b[26:], "\xff\xff\xff\xfe") })), ErrMalformed},
		{"a byte too many", fixMessage(append(bytes.Clone(good), 0)), ErrMalformed},
		{"codec 5", m(1, 8, 5, 0, nil, v), ErrUnsupported},
		{"zstd", m(1, 8, codecZstd, 0, nil, v), ErrMalformed},
		{"wrapper with null", m(1, 8, codecGzip, 0, nil, nil), ErrCorrupt},
		{"wrapper with garbage", m(1, 8, codecGzip, 0, nil, v), ErrCorrupt},
		{"v0 lz4 with garbage", m(0, 8, codecLZ4, 0, nil, v), ErrCorrupt},
		{"v0 lz4 with a header cut off", m(0, 8, codecLZ4, 0, nil, []byte("\x04\x22\x4d\x18\x08\x40\x00\x00")), ErrCorrupt},
		{"wrapper with nothing", wrapped(), ErrMalformed},
		{"wrapper with half a message", wrapped(m(1, 0, 0, 0, k, v)[:20]), ErrMalformed},
		{"wrapper with a wrong checksum in it", wrapped(m(1, 0, 0, 0, k, v), change(m(1, 1, 0, 0, k, v), func(b []byte) { b[len(b)-1]++ })), ErrCorrupt},
		{"wrapper in a wrapper", wrapped(wrapped(m(1, 0, 0, 0, k, v))), ErrMalformed},
		{"v0 in v1", wrapped(m(0, 0, 0, 0, k, v)), ErrMalformed},
		{"v2 in v1", wrapped(newBatch(0, 0, 1, makeRecordBytes(k, v))), ErrMalformed},
		{"offsets twice", wrapped(m(1, 0, 0, 0, k, v), m(1, 0, 0, 0, k, v)), ErrMalformed},
		{"offsets backwards", wrapped(m(1, 1, 0, 0, k, v), m(1, 0, 0, 0, k, v)), ErrMalformed},
		{"offsets beyond the wrapper's", wrapped(m(1, 9, 0, 0, k, v)), ErrMalformed},
		{"negative offset in a wrapper", wrapped(m(1, -1, 0, 0, k, v)), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Header
			n, next, err := new(Recoder).Convert(append(m(1, 2, 0, 0, k, v), c.records...), 0, func(b Header) error {
				got = append(got, b)
				return nil
			})
			require.ErrorIs(t, err, c.want)
			require.Equal(t, len(good), n, "the message before it")
			require.Equal(t, int64(3), next)
			require.Len(t, got, 1)
		})
	}
	stop := errors.New("stop")
	n, _, err := new(Recoder).Convert(good, 0, func(Header) error { return stop })
	require.Equal(t, stop, err)
	require.Zero(t, n)
	_, _, err = (&Recoder{MaxSize: 30}).Convert(wrapped(m(1, 0, 0, 0, k, v)), 0, nil)
	require.ErrorIs(t, err, ErrTooLarge)
}

// TestConvertReadsAsTheOldSet: franz-go reads the same records from the converted batches as from
// the old message set. Where the fetch ended makes no difference.
func TestConvertReadsAsTheOldSet(t *testing.T) {
	var r Recoder
	convert := func(t require.TestingT, set []byte, from int64) (out []byte, n int, next int64) {
		n, next, err := r.Convert(set, from, func(b Header) error {
			out = append(out, b...)
			return nil
		})
		require.NoError(t, err)
		return out, n, next
	}
	rapid.Check(t, func(rt *rapid.T) {
		magic := int8(rapid.IntRange(0, 1).Draw(rt, "magic"))
		var set []byte
		offset := rapid.SampledFrom([]int64{0, 1, 1 << 40}).Draw(rt, "base")
		for range rapid.IntRange(0, 5).Draw(rt, "messages") {
			codec := int8(rapid.IntRange(0, 2+int(magic)).Draw(rt, "codec")) // v0 with lz4 has its own test case
			attributes := codec | rapid.SampledFrom([]int8{0, int8(bitLogAppendTime)}).Draw(rt, "type")*magic
			timestamp := rapid.Int64Range(-1, 9e12).Draw(rt, "timestamp")
			if codec == 0 {
				set = append(set, oldMessage(magic, offset, attributes, timestamp, drawBytes(rt, "key"), drawBytes(rt, "value"))...)
				offset++
				continue
			}
			var inner []byte
			base := offset
			for range rapid.IntRange(1, 5).Draw(rt, "inner") {
				offset += int64(rapid.IntRange(0, 1).Draw(rt, "hole"))
				relative := offset
				if magic == 1 {
					relative -= base
				}
				own := rapid.Int64Range(-1, 9e12).Draw(rt, "timestamp")
				if attributes != codec {
					own = timestamp // with LogAppendTime the wrapper's timestamp counts; franz-go looks at the inner
				}
				inner = append(inner, oldMessage(magic, relative, attributes&^codec, own, drawBytes(rt, "key"), drawBytes(rt, "value"))...)
				offset++
			}
			set = append(set, oldMessage(magic, offset-1, attributes, timestamp, nil, compressed(rt, codec, inner))...)
			offset += int64(rapid.IntRange(0, 1).Draw(rt, "hole behind"))
		}
		whole, n, next := convert(rt, set, 0)
		require.Equal(rt, len(set), n)
		want := readAsClient(t, set, 0)
		for i := range want {
			if magic == 0 {
				want[i].TimestampType, want[i].Timestamp = 1, -1
			}
		}
		require.Equal(rt, want, readAsClient(t, whole, 0))
		if len(want) > 0 {
			require.Equal(rt, want[len(want)-1].Offset+1, next)
		}

		cut := rapid.IntRange(0, len(set)).Draw(rt, "cut")
		first, n, next := convert(rt, set[:cut], 0)
		second, _, _ := convert(rt, set[n:], next)
		require.Equal(rt, whole, append(first, second...), "in two fetches")
	})
}
