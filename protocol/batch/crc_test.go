package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// mulModSlow multiplies two polynomials mod P bit by bit, as the definition says.
func mulModSlow(a, b uint32) uint32 {
	var p uint32
	for i := 31; i >= 0; i-- { // from x^0 on
		if a>>i&1 == 1 {
			p ^= b
		}
		if b&1 == 1 {
			b = b>>1 ^ crc32.Castagnoli
		} else {
			b >>= 1
		}
	}
	return p
}

func TestMulMod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		if got, want := mulMod(a, b), mulModSlow(a, b); got != want {
			t.Fatalf("mulMod(%#x, %#x) = %#x, want %#x", a, b, got, want)
		}
	})
	require.Equal(t, uint32(0x12345678), mulMod(1<<31, 0x12345678), "times x^0")
}

func TestShiftCRC(t *testing.T) {
	// A message with only zeros after it, for lengths around each byte of the table's index.
	for _, n := range []int{0, 1, 2, 255, 256, 257, 65535, 65536, 65537, 1 << 20, 1<<24 + 3} {
		msg := append([]byte("klink"), make([]byte, n)...)
		raw := func(p []byte) uint32 { return ^crc32.Update(^uint32(0), castagnoli, p) } // from state 0, not inverted
		require.Equal(t, raw(msg), shiftCRC(raw(msg[:5]), uint32(n)), "%d zeros", n)
	}
}

// recomputeCRC is the twin of patchCRC that reads the records, twice: the checksum stays as wrong
// as it was.
func recomputeCRC(b Header, change func(Header)) {
	before := crc32.Checksum(b[atAttributes:], castagnoli)
	change(b)
	after := crc32.Checksum(b[atAttributes:], castagnoli)
	b.setCRC(b.CRC() ^ before ^ after)
}

// newBatch makes one whole batch with a right checksum around any records bytes.
func newBatch(base int64, attributes int16, count int32, records []byte) []byte {
	b := make([]byte, HeaderSize, HeaderSize+len(records))
	b = append(b, records...)
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(base))
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-sizePrefix))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], 3)
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(attributes))
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(count-1))
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], 1_700_000_000_000)
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], 1_700_000_000_999)
	binary.BigEndian.PutUint64(b[atProducerID:], ^uint64(0))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], ^uint16(0))
	binary.BigEndian.PutUint32(b[atBaseSequence:], ^uint32(0))
	binary.BigEndian.PutUint32(b[atCount:], uint32(count))
	fixCRC(b)
	return b
}

func fixCRC(b []byte) { Header(b).setCRC(crc32.Checksum(b[atAttributes:], castagnoli)) }

// drawBatch draws a batch with any header fields that a stamp reads or writes.
func drawBatch(t *rapid.T) []byte {
	b := newBatch(
		rapid.Int64Range(0, maxLogicalBase-1<<32).Draw(t, "base"),
		rapid.Int16().Draw(t, "attributes"),
		rapid.Int32Range(1, 1000).Draw(t, "count"),
		rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "records"),
	)
	binary.BigEndian.PutUint64(b[atProducerID:], rapid.Uint64().Draw(t, "producerId"))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], rapid.Uint16().Draw(t, "producerEpoch"))
	binary.BigEndian.PutUint32(b[atBaseSequence:], rapid.Uint32().Draw(t, "baseSequence"))
	fixCRC(b)
	return b
}

func TestPatchedCRCEqualsRecomputed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		logical, epoch := rapid.Int64Range(0, maxLogicalBase).Draw(t, "logical"), rapid.Int32().Draw(t, "epoch")
		if rapid.Bool().Draw(t, "damaged before") {
			b[rapid.IntRange(atCRC, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		right := VerifyCRC(b)
		write := func(h Header) { writeStamp(h, logical, epoch) }
		patched, recomputed := append(Header(nil), b...), append(Header(nil), b...)
		patchCRC(patched, write)
		recomputeCRC(recomputed, write)
		if string(patched) != string(recomputed) {
			t.Fatalf("patched %x, recomputed %x", patched[:HeaderSize], recomputed[:HeaderSize])
		}
		if VerifyCRC(patched) != right {
			t.Fatalf("the checksum was right: %t, and now: %t", right, !right)
		}
	})
}

func TestDamageIsStillFoundAfterStamp(t *testing.T) {
	for _, n := range []int{1, 100, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			for bit := range 8 * n {
				b := newBatch(5, 0, 1, make([]byte, n))
				b[HeaderSize+bit/8] ^= 1 << (bit % 8)
				require.NoError(t, Stamp(b, 5, 3))
				require.False(t, VerifyCRC(b), "bit %d of the records", bit)
			}
		})
	}
}

func TestVerifyCRC(t *testing.T) {
	b := newBatch(5, 0, 1, []byte("records"))
	require.True(t, VerifyCRC(b))
	require.False(t, VerifyCRC(b[:len(b)-1]), "cut")
	require.False(t, VerifyCRC(append(b, 0)), "too long")
	require.False(t, VerifyCRC(nil))
	b[len(b)-1] ^= 0x80
	require.False(t, VerifyCRC(b), "damaged")
}
