package mirror

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"klink/protocol/batch"

	"github.com/stretchr/testify/require"
)

func withCRC(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

// TestBatches: every workload's batches are whole, have as many records as they say, and are the
// same ones each time.
func TestBatches(t *testing.T) {
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			var both [2][]byte
			for i := range both {
				b, err := newBatcher(&w, 3)
				require.NoError(t, err)
				for range 4 {
					both[i] = b.appendBatch(both[i], w.perBatch, nil)
				}
			}
			require.Equal(t, both[0], both[1])
			c := contentOf(t, both[0])
			require.EqualValues(t, 4*w.perBatch, c.records)
			other, err := newBatcher(&w, 4)
			require.NoError(t, err)
			require.NotEqual(t, both[0][:len(both[0])/4], other.appendBatch(nil, w.perBatch, nil))
			size, raw := len(both[0])/4, w.perBatch*w.recordSize
			if w.lz4 {
				require.Less(t, size, raw*2/3)
				require.EqualValues(t, codecLz4, batch.Header(both[0]).Codec())
			} else {
				require.InDelta(t, raw+batch.HeaderSize, size, float64(raw)*0.25, "%d bytes a batch", size)
			}
		})
	}
}

// TestRecordsDiffer: no two records of a partition are the same, or a mirror could swap them.
func TestRecordsDiffer(t *testing.T) {
	for _, name := range []string{"large", "small", "lz4"} {
		w, ok := workloadNamed(name)
		require.True(t, ok)
		g := newGenerator(&w, 1)
		seen := map[string]bool{}
		for i := range int64(1000) {
			v := string(g.appendValue(nil, 7, i))
			require.False(t, seen[v])
			seen[v] = true
			require.InDelta(t, w.recordSize, len(v), 20)
		}
	}
}

// TestDue: the time in a value is read back to the nanosecond, in both kinds of value.
func TestDue(t *testing.T) {
	at := time.Unix(0, 1_790_000_000_123_456_789)
	for _, name := range []string{"large", "lz4"} {
		w, _ := workloadNamed(name)
		got, seq, err := due(&w, newGenerator(&w, 1).appendValue(nil, at.UnixNano(), 5))
		require.NoError(t, err)
		require.True(t, at.Equal(got), name)
		require.EqualValues(t, 5, seq)
		_, _, err = due(&w, []byte("short"))
		require.Error(t, err)
	}
}

// TestSizes: a scale changes how much there is, in whole batches, and there is always something.
func TestSizes(t *testing.T) {
	for _, w := range workloads {
		full, half := w.perPartition(1), w.perPartition(0.5)
		require.Zero(t, full%w.perBatch)
		require.InDelta(t, full/2, half, float64(w.perBatch), w.name)
		require.Equal(t, w.perBatch, w.perPartition(1e-9))
		require.Greater(t, w.sourceBytes(1), w.sourceBytes(0.5))
		require.NotEmpty(t, w.why)
	}
}
