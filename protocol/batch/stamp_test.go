package batch

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCheck(t *testing.T) {
	put32 := func(at int, v int32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
	}
	base := func(v int64) func([]byte) { return func(b []byte) { Header(b).SetBaseOffset(v) } }
	attributes := func(a int16) func([]byte) { return func(b []byte) { Header(b).setAttributes(a) } }
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   error // nil = may be mirrored
	}{
		{"plain", func([]byte) {}, nil},
		{"gzip", attributes(1), nil},
		{"zstd", attributes(4), nil},
		{"of an idempotent producer", func(b []byte) { binary.BigEndian.PutUint64(b[atProducerID:], 7) }, nil},
		{"of a mirror of a mirror", func(b []byte) { require.NoError(t, Stamp(b, 5, 1)) }, nil},
		{"highest offsets", base(maxLogicalBase - 9), nil},
		{"an unknown codec", attributes(5), ErrUnsupported},
		{"an unknown attribute", attributes(1 << 7), ErrUnsupported},
		{"attribute sign bit", attributes(math.MinInt16), ErrUnsupported},
		{"LogAppendTime", attributes(bitLogAppendTime), ErrLogAppendTime},
		{"transactional", attributes(bitTransactional), ErrTransactional},
		{"control", attributes(bitControl), ErrControl},
		{"control, transactional", attributes(bitControl | bitTransactional), ErrControl},
		{"delete horizon", attributes(bitDeleteHorizon), ErrThinned},
		{"a record missing", put32(atCount, 9), ErrThinned},
		{"an offset too many", put32(atLastOffsetDelta, 10), ErrThinned},
		{"no record left", put32(atCount, 0), ErrEmpty},
		{"more records than offsets", put32(atCount, 11), ErrMalformed},
		{"negative count", put32(atCount, -1), ErrMalformed},
		{"negative last offset", put32(atLastOffsetDelta, -1), ErrMalformed},
		{"negative base offset", base(-1), ErrMalformed},
		{"offsets beyond 63 bits", base(maxLogicalBase - 8), ErrMalformed},
		{"length larger than the bytes", put32(atLength, 1000), ErrMalformed},
		{"length smaller than the bytes", put32(atLength, HeaderSize-sizePrefix), ErrMalformed},
		{"magic 1", func(b []byte) { b[atMagic] = 1 }, ErrOldFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBatch(5, 0, 10, []byte("ten records"))
			c.change(b)
			err := Check(b)
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestClassify(t *testing.T) {
	put32 := func(at int, v int32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
	}
	attributes := func(a int16) func([]byte) { return func(b []byte) { Header(b).setAttributes(a) } }
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   Kind
		err    error
	}{
		{"plain", func([]byte) {}, Data, nil},
		{"zstd", attributes(4), Data, nil},
		{"LogAppendTime", attributes(bitLogAppendTime), Data, nil},
		{"transactional", attributes(bitTransactional), Data, nil},
		{"delete horizon, all records there", attributes(bitDeleteHorizon), Data, nil},
		{"control", attributes(bitControl), Control, nil},
		{"control, transactional", attributes(bitControl | bitTransactional), Control, nil},
		{"control, emptied", func(b []byte) { attributes(bitControl)(b); put32(atCount, 0)(b) }, Control, nil},
		{"a record missing", put32(atCount, 9), Thinned, nil},
		{"the last record missing", put32(atLastOffsetDelta, 10), Thinned, nil},
		{"no record left", put32(atCount, 0), Empty, nil},
		{"more records than offsets", put32(atCount, 11), 0, ErrMalformed},
		{"an unknown codec", attributes(5), 0, ErrUnsupported},
		{"an unknown attribute", attributes(1 << 7), 0, ErrUnsupported},
		{"magic 1", func(b []byte) { b[atMagic] = 1 }, 0, ErrOldFormat},
		{"negative offset", func(b []byte) { Header(b).SetBaseOffset(-1) }, 0, ErrMalformed},
	} {
		b := newBatch(5, 0, 10, []byte("ten records"))
		c.change(b)
		kind, err := Classify(b)
		require.Equal(t, c.want, kind, c.name)
		require.ErrorIs(t, err, c.err, c.name)
	}
	require.Equal(t, "data thinned empty control Kind(9)", fmt.Sprint(Data, " ", Thinned, " ", Empty, " ", Control, " ", Kind(9)))
}

// TestRestoreBytes: of a batch with LogAppendTime, whose bit the destination has cleared, exactly
// these bytes change on the way to a client.
func TestRestoreBytes(t *testing.T) {
	source := newBatch(100, bitLogAppendTime|4, 2, []byte("records"))
	b := append(Header(nil), source...)
	require.NoError(t, Stamp(b, 100, 3))
	_, flags, _, _ := ReadStamp(b)
	require.Equal(t, int16(1), flags)
	appendAt(t, b, 40)
	require.Equal(t, int16(4), b.Attributes(), "the bit is gone")
	appended := append(Header(nil), b...)
	require.NoError(t, Restore(b[:HeaderSize], 100))
	want := append(Header(nil), appended...)
	want[7], want[atAttributes+1] = 100, 0x0c
	fixCRC(want)
	require.Equal(t, want, b)
	require.True(t, VerifyCRC(b))
	require.Equal(t, source[atAttributes:atBaseTimestamp], []byte(b[atAttributes:atBaseTimestamp]))
	require.Equal(t, source[atMaxTimestamp:atProducerID], []byte(b[atMaxTimestamp:atProducerID]))
	require.True(t, FromAppendTime(b))
	require.Equal(t, b.MaxTimestamp(), b.BaseTimestamp(), "the broker finds the first record by the time of the append")
}

func TestStampBytes(t *testing.T) {
	// Every field of the header by its bytes, so that a mistake in an offset cannot hide in both
	// writing and reading.
	b := newBatch(100, bitLogAppendTime|bitTransactional|bitDeleteHorizon|4, 2, nil)
	require.NoError(t, Stamp(b, 100, 7))
	SetPlace(b, 0x5_fedc_ba98) // of which 0xdcba98 counts: 0xdcb and 0xa98
	want := []byte{
		0, 0, 0, 0, 0, 0, 0, 0, // base offset
		0, 0, 0, 49, // length
		0xff, 0xff, 0xff, 0xff, // leader epoch
		2,                                            // magic
		b[atCRC], b[atCRC+1], b[atCRC+2], b[atCRC+3], // checked below
		0, 0x0c, // attributes: LogAppendTime and zstd stay
		0, 0, 0, 1, // last offset delta
		0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x6b, 0xe7, // base timestamp: the time of the append too
		0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x6b, 0xe7, // max timestamp
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x9a, // -102
		0xa98 >> 5, 0xa98<<3&0xff | 1, // the place and the flag
		0xdcb >> 5, 0xdcb << 3 & 0xff, 0, 7, // the place and the source's leader epoch
		0, 0, 0, 2, // count
	}
	require.Equal(t, want, b)
	require.True(t, VerifyCRC(b))
}

func TestStampLimits(t *testing.T) {
	b := newBatch(5, 0, 1, []byte("r"))
	before := append([]byte(nil), b...)
	for _, logical := range []int64{-1, math.MinInt64, math.MaxInt64} {
		require.ErrorIs(t, Stamp(b, logical, 1), ErrMalformed)
	}
	require.ErrorIs(t, Stamp(b[:len(b)-1], 5, 1), ErrMalformed)
	require.ErrorIs(t, Stamp(nil, 5, 1), ErrMalformed)
	require.Equal(t, before, b, "a refused stamp changes nothing")

	require.NoError(t, Stamp(b, maxLogicalBase, -1))
	logical, flags, epoch, ok := ReadStamp(b)
	require.True(t, ok)
	require.Equal(t, int64(maxLogicalBase), logical)
	require.Zero(t, flags)
	require.Equal(t, int32(-1), epoch)
	require.Equal(t, int32(1<<19-1), Header(b).BaseSequence(), "compaction fails on a negative sequence")
	for given, want := range map[int32]int32{math.MinInt32: -1, 0: 0, 1<<19 - 2: 1<<19 - 2, 1<<19 - 1: -1, 1 << 19: -1, math.MaxInt32: -1} {
		require.NoError(t, Stamp(b, 5, given))
		SetPlace(b, -1)
		_, _, epoch, _ = ReadStamp(b)
		require.Equal(t, want, epoch, "leader epoch %d", given)
		require.GreaterOrEqual(t, Header(b).BaseSequence(), int32(0))
		require.GreaterOrEqual(t, Header(b).ProducerEpoch(), int16(0))
	}
}

// TestCounts: which batches stand at their place, by header and offset alone.
func TestCounts(t *testing.T) {
	const place = 5<<24 | 0xdcba98
	stamped := func(h Header) { require.NoError(t, Stamp(h, 100, 3)); SetPlace(h, place) }
	control := func(id int64) func(Header) {
		return func(h Header) {
			h.setAttributes(bitControl)
			h.setNoProducer()
			binary.BigEndian.PutUint64(h[atProducerID:], uint64(id))
			binary.BigEndian.PutUint16(h[atProducerEpoch:], 0)
		}
	}
	for _, c := range []struct {
		name   string
		change func(Header)
		at     int64
		want   bool
	}{
		{"at its place", stamped, place, true},
		{"behind its place", stamped, place + 1, false},
		{"before its place", stamped, place - 1, false},
		{"2^12 offsets off", stamped, place + 1<<12, false},
		{"2^23 offsets off", stamped, place + 1<<23, false},
		{"2^24 offsets off, which nobody can tell", stamped, place + 1<<24, true},
		{"no place was set", func(h Header) { require.NoError(t, Stamp(h, 100, 3)) }, 100, false},
		{"set once more", func(h Header) { stamped(h); SetPlace(h, 7) }, 7, true},
		{"where it was to be before", func(h Header) { stamped(h); SetPlace(h, 7) }, place, false},
		{"a filler", func(h Header) { stamped(h); h.setStamp(100, FlagFiller, unknownEpoch, place) }, place, true},
		{"the highest place", func(h Header) { stamped(h); SetPlace(h, 1<<24-1) }, 1<<24 - 1, true},
		{"of no producer", func(Header) {}, place, false},
		{"of a producer, at offset 0", func(h Header) { h.setNoProducer(); binary.BigEndian.PutUint64(h[atProducerID:], 0) }, 0, false},
		{"of a transactional producer", func(h Header) {
			binary.BigEndian.PutUint64(h[atProducerID:], 4000)
			h.setAttributes(bitTransactional)
		}, 0, false},
		{"a negative epoch", func(h Header) { stamped(h); binary.BigEndian.PutUint16(h[atProducerEpoch:], 0x8000|0xa98<<3) }, place, false},
		{"a negative sequence", func(h Header) { stamped(h); binary.BigEndian.PutUint32(h[atBaseSequence:], 0x80000000|0xdcb<<19) }, place, false},
		{"a marker at its offset", control(-2 - place), place, true},
		{"a marker elsewhere", control(-2 - place), place + 1, false},
		{"a marker 2^24 offsets off", control(-2 - place), place + 1<<24, false},
		{"a marker of a transaction", control(4000), 4000, false},
		{"an old format", func(h Header) { stamped(h); h[atMagic] = 1 }, place, false},
		{"a negative offset", func(h Header) { stamped(h); SetPlace(h, -1) }, -1, false},
	} {
		h := Header(newBatch(5, 0, 1, []byte("r")))
		c.change(h)
		h.SetBaseOffset(c.at)
		require.Equal(t, c.want, Counts(h), c.name)
		require.Equal(t, c.want, Counts(h[:HeaderSize]), "%s: the header suffices", c.name)
		require.False(t, Counts(h[:HeaderSize-1]), c.name)
	}
}

func TestReadStamp(t *testing.T) {
	for id, want := range map[int64]bool{-1: false, 0: false, 9: false, math.MaxInt64: false, -2: true, -3: true, math.MinInt64: true} {
		b := newBatch(5, 0, 1, nil)
		binary.BigEndian.PutUint64(b[atProducerID:], uint64(id))
		logical, _, _, ok := ReadStamp(b)
		require.Equal(t, want, ok, "producer id %d", id)
		if ok {
			require.Equal(t, -2-id, logical)
		}
	}
	old := newBatch(5, 0, 1, nil)
	require.NoError(t, Stamp(old, 5, 1))
	_, _, _, ok := ReadStamp(old[:HeaderSize-1])
	require.False(t, ok, "less than a header")
	old[atMagic] = 1
	_, _, _, ok = ReadStamp(old)
	require.False(t, ok, "what stands in an old format where the producer id would be")
}

func TestRestoreWithoutStamp(t *testing.T) {
	b := newBatch(5, 0, 1, []byte("somebody else's"))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], 1) // an epoch, not flags
	fixCRC(b)
	want := append(Header(nil), b...)
	want.SetBaseOffset(105)
	require.NoError(t, Restore(b, 105))
	require.Equal(t, []byte(want), b)
	require.ErrorIs(t, Restore(b[:HeaderSize-1], 105), ErrMalformed)
	require.ErrorIs(t, Restore(b[:3], 105), ErrMalformed)
}

func TestStampRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		source := append(Header(nil), b...)
		logical := rapid.Int64Range(0, maxLogicalBase).Draw(t, "logical")
		epoch := rapid.Int32().Draw(t, "epoch")
		require.NoError(t, Stamp(b, logical, epoch))
		require.True(t, VerifyCRC(b))
		gotLogical, flags, gotEpoch, ok := ReadStamp(b)
		require.True(t, ok)
		require.Equal(t, logical, gotLogical)
		if epoch < 0 || epoch >= 1<<19-1 {
			epoch = -1
		}
		require.Equal(t, epoch, gotEpoch)
		for range 2 {
			if Header(b).Control() {
				break // Check refuses it
			}
			place := rapid.Int64Range(0, math.MaxInt64).Draw(t, "place")
			SetPlace(b[:HeaderSize], place)
			require.True(t, VerifyCRC(b))
			againLogical, againFlags, againEpoch, ok := ReadStamp(b)
			require.True(t, ok)
			require.Equal(t, []any{logical, flags, epoch}, []any{againLogical, againFlags, againEpoch})
			h, at := Header(b), rapid.Int64Range(0, math.MaxInt64).Draw(t, "at")
			h.SetBaseOffset(at)
			require.Equal(t, at%(1<<24) == place%(1<<24), Counts(b))
			h.SetBaseOffset(place)
			require.True(t, Counts(b))
		}

		h := Header(b)
		h.setAttributes(h.Attributes() &^ bitLogAppendTime) // the destination's broker
		fixCRC(h)
		require.NoError(t, Restore(b, logical))
		require.True(t, VerifyCRC(b))
		require.Equal(t, logical, h.BaseOffset())
		require.Equal(t, source.Attributes()&^(bitTransactional|bitDeleteHorizon), h.Attributes())
		require.Equal(t, []byte(source[atCount:]), b[atCount:])
	})
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	records := append(newBatch(5, 0, 1, make([]byte, 100)), newBatch(6, 0, 1, make([]byte, 5000))...)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		w := Walk(records)
		for logical := int64(5); w.Next(); logical++ {
			b := w.Batch()
			b.SetBaseOffset(logical)
			if Check(b) != nil || Stamp(b, logical, 1) != nil || !VerifyCRC(b) {
				panic("refused")
			}
			SetPlace(b, logical+7)
			b.SetBaseOffset(logical + 7)
			if !Counts(b) {
				panic("void")
			}
			if at, _, _, ok := ReadStamp(b); !ok || Restore(b, at) != nil {
				panic("lost")
			}
		}
	}))
}
