package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const lz4Magic = 0x184d2204

var errLZ4 = errors.New("malformed lz4 frame")

// unlz4Broken decompresses lz4 as message format v0 has it. There Kafka computed the checksum of
// the frame's header over too many bytes, the frame's magic included (KAFKA-3160), and readers of
// v0 ignore that checksum. So does unlz4Broken: it replaces it by the right one.
func (c *codecs) unlz4Broken(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return dst, fmt.Errorf("%w: %w", ErrCorrupt, errLZ4)
	}
	at := 6 // behind the magic, the flags and the block size
	if src[4]&(1<<3) != 0 {
		at += 8 // content size
	}
	if src[4]&1 != 0 {
		at += 4 // dictionary id
	}
	if len(src) <= at {
		return dst, fmt.Errorf("%w: %w", ErrCorrupt, errLZ4)
	}
	header := append(make([]byte, 0, 19), src[:at+1]...)
	header[at] = byte(shortXXH32(header[4:at]) >> 8)
	dst, err := c.unlz4(dst, io.MultiReader(bytes.NewReader(header), bytes.NewReader(src[at+1:])), limit)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: lz4: %w", ErrCorrupt, err)
	}
	return dst, err
}

// shortXXH32 is the xxHash of fewer than 16 bytes, with seed 0.
func shortXXH32(b []byte) uint32 {
	const (
		prime1 = 2654435761
		prime2 = 2246822519
		prime3 = 3266489917
		prime4 = 668265263
		prime5 = 374761393
	)
	h := uint32(prime5) + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*prime3, 17) * prime4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
