package batch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// foreign makes a batch of that many bytes that somebody else wrote.
func foreign(size int) Header {
	b := Header(newBatch(1000, int16(codecZstd), 5, bytes.Repeat([]byte{0xa5}, size-HeaderSize)))
	b.SetLeaderEpoch(4)
	return b
}

// TestVoidOfEveryLength: the record fills the batch exactly, whatever the length, and also where a
// varint grows by a byte.
func TestVoidOfEveryLength(t *testing.T) {
	sizes := []int{1 << 20, 1<<20 + 1, 16<<20 + 7}
	for size := markerMin; size <= 70_000; size++ {
		sizes = append(sizes, size)
	}
	for at := range 40 { // around the lengths at which four bytes are needed
		sizes = append(sizes, 1<<20+HeaderSize-20+at)
	}
	buffer := make([]byte, 17<<20)
	copy(buffer, foreign(HeaderSize+100))
	for _, size := range sizes {
		b := Header(buffer[:size])
		for i := HeaderSize; i < min(size, 100); i++ {
			b[i] = 0xa5
		}
		b[size-1] = 0xa5
		binary.BigEndian.PutUint32(b[atLength:], uint32(size-sizePrefix))
		if !Void(b, 41) {
			t.Fatalf("%d bytes: refused", size)
		}
		if b.Size() != size || b.NextOffset() != 42 || b.Count() != 1 || b.Attributes() != bitControl || b.ProducerID() != -1 {
			t.Fatalf("%d bytes: header %x", size, b[:HeaderSize])
		}
		r, rest, err := nextRecord(b[HeaderSize:])
		if err != nil || len(rest) != 0 || r.offsetDelta != 0 {
			t.Fatalf("%d bytes: %v, %d left", size, err, len(rest))
		}
		if !bytes.HasPrefix(r.what, []byte{8, 0, 0, 0, 1}) {
			t.Fatalf("%d bytes: key %x", size, r.what[:5])
		}
		if (size < 2000 || size > 69_000) && !VerifyCRC(b) {
			t.Fatalf("%d bytes: checksum", size)
		}
	}
}

func TestVoidBytes(t *testing.T) {
	b := foreign(markerMin)
	require.True(t, Void(b, 41))
	want := []byte{
		0, 0, 0, 0, 0, 0, 0, 41, // base offset
		0, 0, 0, markerMin - 12, // length
		0, 0, 0, 4, // leader epoch, as it was
		2,                                            // magic
		b[atCRC], b[atCRC+1], b[atCRC+2], b[atCRC+3], // checked below
		0, 0x20, // attributes: control
		0, 0, 0, 0, // last offset delta
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // base timestamp
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // max timestamp
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id
		0xff, 0xff, // producer epoch
		0xff, 0xff, 0xff, 0xff, // base sequence
		0, 0, 0, 1, // count
		20, 0, 0, 0, // record: length 10, attributes, timestamp delta, offset delta
		8, 0, 0, 0, 1, // key: version 0, commit
		0, 0, // empty value, no headers
	}
	require.Equal(t, want, []byte(b))
	require.True(t, VerifyCRC(b))
}

// TestVoidIsSkippedByFranzGo: as a consumer it gives nothing of the batch, and goes on behind it.
func TestVoidIsSkippedByFranzGo(t *testing.T) {
	for _, size := range []int{72, 126, 127, 128, 135, 136, 137, 138, 8254, 8255, 8256, 8264, 8265, 8266, 100_000} {
		b := foreign(size)
		require.True(t, Void(b, 4))
		next := newBatch(5, 0, 1, makeRecordBytes(nil, []byte("next")))
		got := readAsClient(t, append(b, next...), 0)
		require.Len(t, got, 1, "%d bytes", size)
		require.Equal(t, int64(5), got[0].Offset)

		rp := kmsg.NewFetchResponseTopicPartition()
		rp.RecordBatches = b
		p, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Topic: "t"}, &rp, kgo.DefaultDecompressor(), nil)
		require.NoError(t, p.Err)
		require.Len(t, p.Records, 1, "%d bytes", size)
		require.Equal(t, []byte{0, 0, 0, 1}, p.Records[0].Key)
	}
}

// TestVoiderInPieces: the batch may pass in pieces of any size, and be cut off.
func TestVoiderInPieces(t *testing.T) {
	for _, size := range []int{HeaderSize, 68, 71, markerMin, 100, 126, 136, 8255, 9000} {
		whole := foreign(size)
		require.True(t, Void(whole, 41))
		for _, piece := range []int{1, 2, 3, 7, 17, 18, 19, 64, 10_000} {
			b := foreign(size)
			v, ok := NewVoider(b[:HeaderSize], 41)
			require.True(t, ok)
			for at := HeaderSize; at < size; at += piece {
				v.Fill(b[at:min(at+piece, size)])
				v.Fill(nil)
			}
			require.True(t, bytes.Equal(whole, b), "%d bytes in pieces of %d", size, piece)
		}
	}
}

// TestVoidOfTheSmallest: where no marker fits, the header counts no record, and a reader that reads
// on finds a control record of a version that it does not know.
func TestVoidOfTheSmallest(t *testing.T) {
	for size := HeaderSize; size < markerMin; size++ {
		b := foreign(size)
		require.True(t, Void(b, 41), "%d bytes", size)
		require.True(t, VerifyCRC(b))
		require.Equal(t, size, b.Size())
		require.Zero(t, b.Count())
		require.True(t, b.Control())
		require.Equal(t, int64(42), b.NextOffset())
		require.Empty(t, readAsClient(t, b, 0))
		if records := b[HeaderSize:]; len(records) >= 7 {
			require.Equal(t, byte(len(records)-1)<<1, records[0], "one record up to the end")
			require.Equal(t, []byte{0, 0, 0, 4, 0x7f, 0xff}, []byte(records[1:7]))
		}
	}
}

func TestVoidRefuses(t *testing.T) {
	b := foreign(200)
	require.False(t, Void(b[:199], 41))
	require.False(t, Void(b[:10], 41))
	for _, length := range []int32{-1, math.MinInt32, 0, HeaderSize - sizePrefix - 1, math.MaxInt32, math.MaxInt32 - 11} {
		binary.BigEndian.PutUint32(b[atLength:], uint32(length))
		_, ok := NewVoider(b, 41)
		require.False(t, ok, "length %d", length)
	}
}

// TestVoidOfTheLargest: a batch need not be there for its checksum to be known.
func TestVoidOfTheLargest(t *testing.T) {
	h := foreign(HeaderSize)
	binary.BigEndian.PutUint32(h[atLength:], math.MaxInt32-sizePrefix)
	_, ok := NewVoider(h, 41)
	require.True(t, ok)
	require.Equal(t, math.MaxInt32, h.Size())

	const size = 200<<20 + 3
	binary.BigEndian.PutUint32(h[atLength:], size-sizePrefix)
	v, ok := NewVoider(h, 41)
	require.True(t, ok)
	zeros := size - HeaderSize - v.size
	crc := crc32.Update(crc32.Checksum(h[atAttributes:], castagnoli), castagnoli, v.head[:v.size])
	for chunk := make([]byte, 1<<20); zeros > 0; zeros -= len(chunk) {
		crc = crc32.Update(crc, castagnoli, chunk[:min(zeros, len(chunk))])
	}
	require.Equal(t, crc, h.CRC())
}

func TestVoidOldFormats(t *testing.T) {
	b := Header(oldMessage(1, 1000, 0, 1, []byte("key"), bytes.Repeat([]byte("v"), 100)))
	require.True(t, Void(b, 41))
	require.True(t, VerifyCRC(b))
	require.Equal(t, int32(-1), b.LeaderEpoch())
	require.Empty(t, readAsClient(t, b, 0))
}

func TestVoidDoesNotAllocate(t *testing.T) {
	b := foreign(100_000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v, ok := NewVoider(b[:HeaderSize], 41)
		if !ok {
			panic("refused")
		}
		v.Fill(b[HeaderSize:1000])
		v.Fill(b[1000:])
	}))
}

func BenchmarkNewVoider(b *testing.B) {
	h := foreign(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := NewVoider(h, 41); !ok {
			b.Fatal("refused")
		}
	}
}
