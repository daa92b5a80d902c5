package batch

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// TestWithoutAppendTime: a client reads the same, whether the destination has taken the
// LogAppendTime bit or not.
func TestWithoutAppendTime(t *testing.T) {
	var r Recoder
	rapid.Check(t, func(rt *rapid.T) {
		var records []kmsg.Record
		for i := range rapid.Int32Range(1, 70).Draw(rt, "records") {
			records = append(records, makeRecord(i, rapid.Int64().Draw(rt, "timestamp"), drawBytes(rt, "key"), drawBytes(rt, "value")))
		}
		codec := int8(rapid.IntRange(0, 4).Draw(rt, "codec"))
		b := kmsgBatch(rt, 1000, int16(codec)|bitLogAppendTime, int32(len(records)-1), records)
		want := readAsClient(t, b, 0)
		require.NoError(rt, Stamp(b, 1000, 4))
		before := append(Header(nil), b...)

		old, err := r.WithoutAppendTime(b)
		require.NoError(rt, err)
		require.Equal(rt, before, b)
		require.NoError(rt, Check(old), "nothing that a broker would not take")
		require.True(rt, VerifyCRC(old))
		require.Equal(rt, codec, old.Codec())
		require.Equal(rt, b[atProducerID:atCount], old[atProducerID:atCount], "the stamp")
		for _, c := range readAsClient(t, old, 0) {
			require.Equal(rt, b.MaxTimestamp(), c.Timestamp)
			require.Equal(rt, 1, c.TimestampType)
		}
		old.SetBaseOffset(7)
		require.NoError(rt, Restore(old[:HeaderSize], 1000))
		require.Equal(rt, want, readAsClient(t, old, 0))
	})
	_, err := r.WithoutAppendTime(nil)
	require.ErrorIs(t, err, ErrMalformed)
	plain := Header(newBatch(5, 0, 1, makeRecordBytes(nil, nil)))
	same, err := r.WithoutAppendTime(plain)
	require.NoError(t, err)
	require.Equal(t, &plain[0], &same[0])
	thinned := kmsgBatch(t, 0, bitLogAppendTime, 3, []kmsg.Record{makeRecord(0, 0, nil, nil)})
	_, err = r.WithoutAppendTime(thinned)
	require.ErrorIs(t, err, ErrThinned)
	damaged := Header(newBatch(5, bitLogAppendTime, 1, makeRecordBytes(nil, nil)))
	damaged[len(damaged)-1] ^= 1
	_, err = r.WithoutAppendTime(damaged)
	require.ErrorIs(t, err, ErrCorrupt)
	garbage := newBatch(5, bitLogAppendTime, 1, []byte("garbage"))
	_, err = r.WithoutAppendTime(garbage)
	require.ErrorIs(t, err, ErrMalformed)
}
