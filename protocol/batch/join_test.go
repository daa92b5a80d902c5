package batch

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// drawDense draws stamped dense batches, one behind the other, as they wait for their append.
func drawDense(t *rapid.T, attributes int16) (stamped [][]byte, all []Header) {
	base := rapid.SampledFrom([]int64{0, 5, 1 << 40}).Draw(t, "base")
	latest := rapid.Int64Range(0, 1<<42).Draw(t, "append time")
	for range rapid.IntRange(1, 6).Draw(t, "batches") {
		var records []kmsg.Record
		n := rapid.IntRange(1, 80).Draw(t, "records")
		for delta := range n {
			var headers []kmsg.Header
			for range rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "headers") {
				headers = append(headers, kmsg.Header{Key: "h", Value: drawBytes(t, "header")})
			}
			timestamp := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.Int64Range(-1<<40, 1<<40)).Draw(t, "timestamp")
			records = append(records, makeRecord(int32(delta), timestamp, drawBytes(t, "key"), drawBytes(t, "value"), headers...))
		}
		b := kmsgBatch(t, base, attributes, int32(n-1), records)
		if attributes&bitLogAppendTime != 0 {
			binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(latest))
		} else {
			first := rapid.Int64Range(0, 1<<42).Draw(t, "base timestamp")
			binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(first))
			most := first + records[0].TimestampDelta64
			for _, r := range records {
				most = max(most, first+r.TimestampDelta64)
			}
			binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(most))
		}
		fixCRC(b)
		all = append(all, b)
		s := bytes.Clone(b)
		require.NoError(t, Stamp(s, base, 7))
		stamped = append(stamped, s)
		base += int64(n)
	}
	return stamped, all
}

// shownAt is a stamped batch as a client reads it when it was appended at a physical offset.
func shownAt(t require.TestingT, b []byte, physical int64) []byte {
	b = bytes.Clone(b)
	SetPlace(b, physical)
	Header(b).SetBaseOffset(physical)
	require.True(t, Counts(b))
	logical, _, _, _ := ReadStamp(b)
	require.NoError(t, Restore(b, logical))
	return b
}

// TestJoinKeepsEveryRecord: a client finds the same records in a joined batch as in those that it
// was made of.
func TestJoinKeepsEveryRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		attributes := rapid.SampledFrom([]int16{0, bitLogAppendTime}).Draw(rt, "type") |
			int16(rapid.IntRange(0, 4).Draw(rt, "codec"))
		stamped, source := drawDense(rt, attributes)
		size, records := 0, 0
		var apart []byte
		for n, b := range stamped {
			if n > 0 {
				require.True(rt, Joinable(stamped[n-1], b))
			}
			size += len(b)
			records += int(Header(b).Count())
			apart = append(apart, shownAt(rt, b, 1000+int64(records))...)
		}
		var r Recoder
		joined, err := r.Join([]byte("before"), stamped, size+records*JoinGrowth+1000)
		require.NoError(rt, err)
		require.Equal(rt, "before", string(joined[:6]))
		b := joined[6:]
		require.True(rt, VerifyCRC(b))
		h := Header(b)
		require.Equal(rt, source[0].Codec(), h.Codec())
		require.EqualValues(rt, records, h.Count())
		require.Equal(rt, h.Count(), h.LastOffsetDelta()+1)
		if h.Codec() == codecNone {
			require.LessOrEqual(rt, len(b), size+records*JoinGrowth)
		}
		logical, _, epoch, ok := ReadStamp(b)
		require.True(rt, ok)
		require.Equal(rt, source[0].BaseOffset(), logical)
		require.EqualValues(rt, 7, epoch)
		var original []byte
		for _, s := range source {
			original = append(original, s...)
		}
		want := readAsClient(t, original, 0)
		require.Equal(rt, want, readAsClient(t, apart, 0))
		require.Equal(rt, want, readAsClient(t, shownAt(rt, b, 77), 0))
	})
}

// TestJoinRefuses: Join refuses batches if joining would change more than deltas, and damaged
// batches, whose damage it would hide.
func TestJoinRefuses(t *testing.T) {
	make2 := func(codec int16) (a, b []byte) {
		a = kmsgBatch(t, 10, codec, 1, []kmsg.Record{makeRecord(0, 0, nil, []byte("x")), makeRecord(1, 5, nil, []byte("y"))})
		b = kmsgBatch(t, 12, codec, 0, []kmsg.Record{makeRecord(0, 0, nil, []byte("z"))})
		require.NoError(t, Stamp(a, 10, 1))
		require.NoError(t, Stamp(b, 12, 1))
		return a, b
	}
	for codec := range int16(5) {
		a, b := make2(codec)
		require.True(t, Joinable(a, b))
		var r Recoder
		_, err := r.Join(nil, [][]byte{a, b}, 60)
		require.ErrorIs(t, err, ErrTooLarge)
		for _, at := range []int{atAttributes, HeaderSize, len(b) - 1} {
			damaged := bytes.Clone(b)
			damaged[at] ^= 0x40
			out, err := r.Join([]byte("x"), [][]byte{a, damaged}, MaxJoined)
			require.ErrorIs(t, err, ErrCorrupt)
			require.Equal(t, "x", string(out))
		}
	}
	a, _ := make2(0)
	for name, change := range map[string]func(Header){
		"codec":            func(h Header) { h.setAttributes(1) },
		"timestamp type":   func(h Header) { h.setAttributes(bitLogAppendTime) },
		"control":          func(h Header) { h.setAttributes(bitControl) },
		"flags":            func(h Header) { h[atProducerEpoch+1] |= 1 },
		"epoch":            func(h Header) { h[atBaseSequence+3]++ },
		"no stamp":         func(h Header) { h.setNoProducer() },
		"another producer": func(h Header) { binary.BigEndian.PutUint64(h[atProducerID:], 5) },
	} {
		_, b := make2(0)
		change(b)
		require.False(t, Joinable(a, b), name)
	}
	// One time for all records of a batch: other batches have another.
	_, b := make2(0)
	x, y := bytes.Clone(b), bytes.Clone(b)
	for _, h := range []Header{x, y} {
		h[atProducerEpoch+1] |= 1
	}
	require.True(t, Joinable(x, y))
	binary.BigEndian.PutUint64(y[atMaxTimestamp:], 5)
	require.False(t, Joinable(x, y))
}

// FuzzJoin: whatever was fetched, Join gives a whole batch of as many records or an error, and
// never panics.
func FuzzJoin(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var batches [][]byte
		n := int32(0)
		for w := Walk(bytes.Clone(data)); w.Next() && len(batches) < 5; {
			b := repaired(w.Batch())
			if Stamp(b, int64(n), 1) != nil || len(batches) > 0 && !Joinable(batches[len(batches)-1], b) {
				break
			}
			batches = append(batches, b)
			n += Header(b).Count()
		}
		if len(batches) == 0 {
			return
		}
		var r Recoder
		b, err := r.Join(nil, batches, 1<<20)
		if err != nil {
			return
		}
		if !VerifyCRC(b) || Header(b).Count() != n || len(b) > 1<<20 {
			t.Fatalf("%d records in %d bytes, want %d", Header(b).Count(), len(b), n)
		}
	})
}

func BenchmarkJoin(b *testing.B) {
	for _, of := range []struct {
		name  string
		codec int16
	}{{"none", 0}, {"lz4", 3}, {"zstd", 4}} {
		b.Run(of.name, func(b *testing.B) {
			var batches [][]byte
			for n := range int64(500) {
				one := kmsgBatch(b, n, of.codec, 0, []kmsg.Record{makeRecord(0, 0, nil, bytes.Repeat([]byte("abcd"), 50))})
				if err := Stamp(one, n, 1); err != nil {
					b.Fatal(err)
				}
				batches = append(batches, one)
			}
			var r Recoder
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = r.Join(dst[:0], batches, MaxJoined); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/record")
		})
	}
}
