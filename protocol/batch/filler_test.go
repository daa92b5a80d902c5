package batch

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestFiller(t *testing.T) {
	for _, count := range []int{1, 2, 63, 64, 65, 8191, 8193, 100_000} {
		const base = 5_000_000_000
		b := Header(Filler([]byte("before"), count, base)[len("before"):])
		kind, err := Classify(b)
		require.NoError(t, err)
		require.Equal(t, Data, kind)
		require.NoError(t, Check(b))
		require.True(t, VerifyCRC(b))
		require.Zero(t, b.BaseOffset())
		require.Equal(t, int32(-1), b.LeaderEpoch())
		require.Equal(t, codecZstd, b.Codec())
		require.Equal(t, []int64{-1, -1}, []int64{b.BaseTimestamp(), b.MaxTimestamp()})
		logical, flags, epoch, ok := ReadStamp(b)
		require.True(t, ok)
		require.Equal(t, int64(base), logical)
		require.Equal(t, FlagFiller, flags)
		require.Equal(t, int32(-1), epoch, "no leader of the source wrote it")
		require.False(t, Counts(b))
		b.SetBaseOffset(base)
		require.True(t, Counts(b))

		raw := decompressed(t, codecZstd, b[HeaderSize:])
		for i := range count {
			r, rest, err := nextRecord(raw)
			require.NoError(t, err)
			require.Equal(t, int32(i), r.offsetDelta)
			require.Zero(t, r.timestampDelta())
			require.Equal(t, []byte{1, 1, 0}, r.what, "null key, null value, no headers")
			if i%1000 == 0 {
				independent := kmsg.NewRecord()
				require.NoError(t, independent.ReadFrom(raw))
				require.Nil(t, independent.Key)
				require.Nil(t, independent.Value)
				require.Equal(t, int32(i), independent.OffsetDelta)
			}
			raw = rest
		}
		require.Empty(t, raw)
	}
}

// TestFillerSizes: even the largest is below a broker's default max.message.bytes, 1,048,588 bytes.
func TestFillerSizes(t *testing.T) {
	largest := Header(Filler(nil, MaxFiller, 7))
	require.True(t, VerifyCRC(largest))
	require.Less(t, len(largest), 900_000)
	require.Equal(t, int32(MaxFiller), largest.Count())
	require.NoError(t, Check(largest))
	for _, count := range []int{1, 1000, 100_000, MaxFiller} {
		t.Logf("%d records: %d bytes", count, len(Filler(nil, count, 7)))
	}
	again := Header(Filler(nil, MaxFiller, 8))
	require.Equal(t, largest[atCount:], again[atCount:])
	at, _, _, _ := ReadStamp(largest)
	require.Equal(t, int64(7), at, "the copies are independent")
}

func TestFillerPanics(t *testing.T) {
	for _, c := range []struct {
		count int
		base  int64
	}{{0, 0}, {-1, 0}, {MaxFiller + 1, 0}, {1, -1}, {1, math.MaxInt64}} {
		require.Panics(t, func() { Filler(nil, c.count, c.base) })
	}
}

func TestLargestFillerIsACopy(t *testing.T) {
	dst := Filler(nil, MaxFiller, 0)
	require.Zero(t, testing.AllocsPerRun(10, func() { dst = Filler(dst[:0], MaxFiller, 1<<40) }))
}

func BenchmarkFiller(b *testing.B) {
	for _, count := range []int{1000, 100_000, MaxFiller - 1, MaxFiller} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var dst []byte
			for b.Loop() {
				dst = Filler(dst[:0], count, 7)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/record")
		})
	}
}
