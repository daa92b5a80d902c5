package store

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOffsetsRecordBounds: the record stays below what a broker takes, and a value that is not such
// a record is refused.
func TestOffsetsRecordBounds(t *testing.T) {
	prints := map[GroupHash]GroupPrint{}
	for i := range maxPrints + 1000 {
		print := GroupPrint{OffsetHash{1}, OffsetHash{2}}
		binary.BigEndian.PutUint32(print.Source[4:], uint32(i))
		prints[GroupHash(binary.BigEndian.AppendUint64(nil, uint64(i)))] = print
	}
	r := NewOffsetsRecord("id", prints)
	value, err := r.encode()
	require.NoError(t, err)
	require.Less(t, len(value), 1_000_000)
	read := r.Prints()
	require.Len(t, read, maxPrints)
	for group, print := range read {
		require.Equal(t, prints[group], print)
	}
	for value, why := range map[string]string{
		`[`: "not a record of synced offsets", `{}`: "no version", `{"version":2}`: "upgrade", `{"version":1,"groups":"AAAA"}`: "cut off", `{"version":1,"groups":7}`: "synced offsets",
	} {
		_, err := decodeOffsets([]byte(value))
		require.ErrorContains(t, err, why, value)
	}
}
