package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCodecsAgreeWithFranzGo(t *testing.T) {
	random := make([]byte, 200_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for codec := codecNone; codec <= codecZstd; codec++ {
		var c codecs // used for all sizes, as a Recoder does
		for _, size := range []int{0, 1, 100, xerialBlock - 1, xerialBlock, xerialBlock + 1, 200_000} {
			for name, src := range map[string][]byte{"zeros": make([]byte, size), "random": random[:size]} {
				for _, target := range []int{0, 1 << 30} {
					what := fmt.Sprintf("codec %d, %d %s, target %d", codec, size, name, target)
					out, err := c.compress([]byte("before"), src, codec, target)
					require.NoError(t, err, what)
					require.Equal(t, "before", string(out[:6]), what)
					if size > 0 || codec == codecGzip || codec == codecLZ4 {
						require.True(t, bytes.Equal(src, decompressed(t, codec, out[6:])), what)
					}
					back, err := new(codecs).decompress([]byte("before"), out[6:], codec, max(size, 1))
					require.NoError(t, err, what)
					require.True(t, bytes.Equal(append([]byte("before"), src...), back), what)
					if size > 1 {
						_, err = new(codecs).decompress(nil, out[6:], codec, size-1)
						require.ErrorIs(t, err, ErrTooLarge, what)
					}
				}
				theirs, err := new(codecs).decompress(nil, compressed(t, codec, src), codec, max(size, 1))
				require.NoError(t, err)
				require.True(t, bytes.Equal(src, theirs))
			}
		}
		_, err := c.decompress(nil, []byte("x"), codecZstd+1, 10)
		require.ErrorIs(t, err, ErrUnsupported)
		_, err = c.compress(nil, []byte("x"), codecZstd+1, 10)
		require.ErrorIs(t, err, ErrUnsupported)
	}
}

// TestFramesAreAsJavaWritesThem: frames have the properties that Kafka's readers insist on.
func TestFramesAreAsJavaWritesThem(t *testing.T) {
	var c codecs
	for range 2 { // the second time with the writers that are there
		out, err := c.compress(nil, make([]byte, 200_000), codecLZ4, 1<<30)
		require.NoError(t, err)
		require.Equal(t, uint32(lz4Magic), binary.LittleEndian.Uint32(out))
		require.Equal(t, byte(0x60), out[4], "version 1, independent blocks, no checksums")
		require.Equal(t, byte(0x40), out[5], "blocks of 64 KiB")
		require.Equal(t, byte(0x82), out[6], "the header's checksum, as Kafka's producer writes it")

		out, err = c.compress(nil, make([]byte, 200_000), codecSnappy, 1<<30)
		require.NoError(t, err)
		require.Equal(t, xerialHeader, string(out[:16]))
	}
}

// TestHostileSizes: a few bytes that claim to be many are refused before memory is allocated.
func TestHostileSizes(t *testing.T) {
	var c codecs
	claim := binary.AppendUvarint(nil, 500<<20)
	// A frame of one segment with a content size of four bytes, and a last block of one byte (RFC
	// 8878).
	frame := append(binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, 500<<20), 9, 0, 0, 'x')
	for name, hostile := range map[string]struct {
		codec int8
		bytes []byte
	}{
		"snappy":         {codecSnappy, append(claim, 0, 1, 2)},
		"xerial":         {codecSnappy, append([]byte(xerialHeader+"\x00\x00\x00\x07"), append(claim, 0, 1, 2)...)},
		"xerial block":   {codecSnappy, []byte(xerialHeader + "\x7f\x00\x00\x07" + "1234567")},
		"xerial -1":      {codecSnappy, []byte(xerialHeader + "\xff\xff\xff\xff" + "1234567")},
		"xerial cut off": {codecSnappy, []byte(xerialHeader + "\x00\x00")},
		"zstd":           {codecZstd, frame},
	} {
		out, err := c.decompress(nil, hostile.bytes, hostile.codec, MaxRecodedSize)
		require.ErrorIs(t, err, ErrCorrupt, name)
		require.Less(t, cap(out), 1<<20, name)
	}
	// Data of that size is refused at the limit, without being held in memory.
	for codec := codecGzip; codec <= codecZstd; codec++ {
		bomb, err := c.compress(nil, make([]byte, 16<<20), codec, 1<<30)
		require.NoError(t, err)
		out, err := new(codecs).decompress(nil, bomb, codec, 1<<20)
		require.ErrorIs(t, err, ErrTooLarge)
		require.LessOrEqual(t, cap(out), 2<<20, "codec %d", codec)
	}
}

func TestXXH32(t *testing.T) {
	// The values of the specification (empty input) and of the xxHash tools.
	for in, want := range map[string]uint32{"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff} {
		require.Equal(t, want, shortXXH32([]byte(in)), in)
	}
	require.Equal(t, byte(0x82), byte(shortXXH32([]byte{0x60, 0x40})>>8), "of the frame header of Kafka's producer")
}
