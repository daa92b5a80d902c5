package batch

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// seen is a record as EachRecord gives it, copied.
type seen struct {
	delta     int32
	timestamp int64
	key       string
	hasKey    bool
	hasValue  bool
	what      string
}

func readAll(t testing.TB, b []byte) (all []seen) {
	t.Helper()
	require.NoError(t, EachRecord(b, func(r Record) error {
		all = append(all, seen{r.OffsetDelta, r.Timestamp, string(r.Key), r.HasKey, r.HasValue(), string(r.what)})
		return nil
	}))
	return all
}

// TestPlain: records that are read from one batch and put into another stay the same, with every
// codec. Tombstones have a key and no value.
func TestPlain(t *testing.T) {
	for codec := range int8(5) {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			var p Plain
			for i := range 300 {
				p.AddTombstone(1_700_000_000_000+int64(i*37%100), fmt.Appendf(nil, "key %d", i))
			}
			require.Equal(t, 300, p.Count())
			b, err := p.Batch(codec)
			require.NoError(t, err)
			require.True(t, VerifyCRC(b))
			kind, err := Classify(b)
			require.NoError(t, err)
			require.Equal(t, Data, kind)
			_, _, _, stamped := ReadStamp(b)
			require.False(t, stamped)
			first := readAll(t, b)
			require.Len(t, first, 300)
			require.Equal(t, seen{7, 1_700_000_000_059, "key 7", true, false, first[7].what}, first[7])

			var again Plain
			require.NoError(t, EachRecord(b, func(r Record) error {
				if r.OffsetDelta%2 == 1 {
					again.Add(r)
				}
				return nil
			}))
			b, err = again.Batch(codec)
			require.NoError(t, err)
			for i, r := range readAll(t, b) {
				want := first[2*i+1]
				want.delta = int32(i)
				require.Equal(t, want, r)
			}
			require.Zero(t, again.Count(), "the next record begins another batch")
		})
	}
}

// TestEachRecord: null keys and values are recognized, an error ends the walk, and no record of a
// damaged batch is passed.
func TestEachRecord(t *testing.T) {
	b := Filler(nil, 3, 9)
	require.Equal(t, []seen{{0, -1, "", false, false, "\x01\x01\x00"}, {1, -1, "", false, false, "\x01\x01\x00"}, {2, -1, "", false, false, "\x01\x01\x00"}}, readAll(t, b))
	stop := errors.New("stop")
	n := 0
	require.ErrorIs(t, EachRecord(b, func(Record) error { n++; return stop }), stop)
	require.Equal(t, 1, n)
	b[len(b)-1]++
	require.ErrorIs(t, EachRecord(b, func(Record) error { t.Error("a record"); return nil }), ErrCorrupt)
	require.ErrorIs(t, EachRecord(b[:40], func(Record) error { return nil }), ErrMalformed)
}

// FuzzEachRecord checks that hostile batches do no more than fail.
func FuzzEachRecord(f *testing.F) {
	var p Plain
	p.AddTombstone(5, []byte("key"))
	b, err := p.Batch(codecGzip)
	require.NoError(f, err)
	f.Add([]byte(b))
	f.Add(Filler(nil, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > HeaderSize {
			b = append([]byte(nil), b...)
			fixCRC(b)
		}
		_ = EachRecord(b, func(r Record) error {
			_ = r.HasValue()
			if !r.HasKey && r.Key != nil {
				t.Error("a key that is null")
			}
			return nil
		})
	})
}
