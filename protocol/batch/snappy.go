package batch

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/s2"
)

// Kafka's Java clients frame snappy as the library snappy-java does: a magic, two versions, then blocks, each with its length
// before it. Clients in other languages write one bare block; all read both.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialBlock  = 32 << 10 // snappy-java's default
)

// snappyExpansion bounds how many bytes one byte of a block can stand for: three bytes copy at most 64.
const snappyExpansion = 22

var errSnappy = errors.New("malformed snappy")

// unsnappy appends the decompressed src, with or without snappy-java's framing.
func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < len(xerialHeader) || string(src[:len(xerialMagic)]) != xerialMagic {
		return unsnappyBlock(dst, src, limit)
	}
	start := len(dst)
	for src = src[len(xerialHeader):]; len(src) > 0; {
		if len(src) < 4 {
			return dst, errSnappy
		}
		size := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return dst, errSnappy
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:size], limit-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[size:]
	}
	return dst, nil
}

func unsnappyBlock(dst, block []byte, limit int) ([]byte, error) {
	size, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return dst, err
	case size > snappyExpansion*len(block):
		return dst, errSnappy
	case size > limit:
		return dst, errTooLarge(limit)
	}
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

// extend makes b longer by n bytes, which it also gives by themselves.
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
