package batch

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/s2"
)

// Kafka's Java clients frame snappy like the library snappy-java: a magic, two versions, then
// blocks, each behind its length. Clients in other languages write one bare block. All clients read
// both.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialBlock  = 32 << 10 // snappy-java's default
)

// snappyExpansion is the largest number of bytes that one byte of a block can stand for: three
// bytes copy at most 64.
const snappyExpansion = 22

var errSnappy = errors.New("malformed snappy")

// unsnappy appends the decompressed src, with or without snappy-java's framing.
func (c *codecs) unsnappy(dst, src []byte, limit int) ([]byte, error) {
	// Read the sizes first: they tell how much room is needed, and a hostile size is refused before
	// anything is decompressed.
	total := 0
	for rest := (snappyBlocks{}).of(src); rest.left(); {
		_, size, err := rest.next()
		if err != nil {
			return dst, err
		}
		if total += size; total > limit {
			return dst, errTooLarge(limit)
		}
	}
	dst = c.grow(dst, total)
	for rest := (snappyBlocks{}).of(src); rest.left(); {
		block, size, err := rest.next()
		if err != nil {
			return dst, err
		}
		if dst, err = unsnappyBlock(dst, block, size); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// snappyBlocks are the blocks of snappy-compressed bytes: one bare block, or those of snappy-java.
type snappyBlocks struct {
	rest   []byte
	framed bool
}

func (snappyBlocks) of(src []byte) snappyBlocks {
	if len(src) < len(xerialHeader) || string(src[:len(xerialMagic)]) != xerialMagic {
		return snappyBlocks{rest: src}
	}
	return snappyBlocks{rest: src[len(xerialHeader):], framed: true}
}

func (s *snappyBlocks) left() bool { return len(s.rest) > 0 }

// next returns a block and its decompressed size. It refuses a size that the block cannot have.
func (s *snappyBlocks) next() (block []byte, size int, err error) {
	block, s.rest = s.rest, nil
	if s.framed {
		if len(block) < 4 {
			return nil, 0, errSnappy
		}
		n := binary.BigEndian.Uint32(block)
		block = block[4:]
		if uint64(n) > uint64(len(block)) {
			return nil, 0, errSnappy
		}
		block, s.rest = block[:n], block[n:]
	}
	size, err = s2.DecodedLen(block)
	if err == nil && size > snappyExpansion*len(block) {
		err = errSnappy
	}
	return block, size, err
}

// unsnappyBlock appends a block that is size bytes long when decompressed.
func unsnappyBlock(dst, block []byte, size int) ([]byte, error) {
	dst, room := extend(dst, size)
	out, err := s2.Decode(room, block)
	if err == nil && len(out) != size {
		err = errSnappy
	}
	return dst, err
}

// snappy appends src, compressed, with snappy-java's framing.
func snappy(dst, src []byte, effort int) []byte {
	encode := [2]func(dst, src []byte) []byte{s2.EncodeSnappy, s2.EncodeSnappyBest}[effort]
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlock)]
		src = src[len(block):]
		at := len(dst)
		var room []byte
		dst, room = extend(dst, 4+s2.MaxEncodedLen(len(block)))
		size := len(encode(room[4:], block))
		binary.BigEndian.PutUint32(room, uint32(size))
		dst = dst[:at+4+size]
	}
	return dst
}

// extend makes b longer by n bytes, and also returns those bytes alone, as room.
func extend(b []byte, n int) (longer, room []byte) {
	at := len(b)
	if cap(b)-at < n {
		grown := make([]byte, at, max(at+n, at+at/2))
		copy(grown, b)
		b = grown
	}
	longer = b[:at+n]
	return longer, longer[at : at+n : at+n]
}
