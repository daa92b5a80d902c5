package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// MaxFiller is the largest number of offsets that one filler batch uses up. Such a batch is below
// the default max.message.bytes (TestFillerSizes has the sizes).
const MaxFiller = 1_000_000

// Filler appends to dst a batch of count empty records, 1 to MaxFiller, stamped with logicalBase.
// Produced at the destination, it uses up count offsets, so that the source's first record gets the
// same offset as at the source.
//
// Keys and values are null, the codec is zstd (Produce v7), and timestamps are -1 ("none", so that
// a lookup by timestamp passes them over). The batch is stamped like those of Stamp, with
// FlagFiller, an unknown leader epoch, and logicalBase as its place, because fillers make both
// offsets the same. A compacted topic refuses null keys: its cleanup.policy must not be set yet.
//
// The batch of MaxFiller records is built once and kept, so it costs only a copy. Others are
// compressed on each call, which takes up to 0.1 s for the largest (BenchmarkFiller). Filler is
// safe for concurrent use. It panics if count is out of range: count never comes from input.
func Filler(dst []byte, count int, logicalBase int64) []byte {
	if count < 1 || count > MaxFiller || logicalBase < 0 || logicalBase > maxLogicalBase-MaxFiller {
		panic(fmt.Sprintf("batch: filler of %d records at offset %d", count, logicalBase))
	}
	at := len(dst)
	if count == MaxFiller {
		dst = append(dst, largestFiller()...)
	} else {
		dst = appendFiller(dst, count)
	}
	patchCRC(Header(dst[at:]), func(h Header) { h.setStamp(logicalBase, FlagFiller, unknownEpoch, logicalBase) })
	return dst
}

var largestFiller = sync.OnceValue(func() []byte { return slices.Clip(appendFiller(nil, MaxFiller)) })

var fillerEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(fillerLevel))
	if err != nil {
		panic(err) // the options are constant
	}
	return e
})

const fillerLevel = zstd.SpeedFastest // half the time of SpeedDefault for 3 % more bytes

// appendFiller appends a filler that is not stamped yet.
func appendFiller(dst []byte, count int) []byte {
	records := make([]byte, 0, 10*count)
	for i := range count {
		delta := int64(i)
		records = append(records, byte(5+varintSize(delta))<<1, 0, 0) // length, attributes, timestamp delta
		records = binary.AppendVarint(records, delta)
		records = append(records, 1, 1, 0) // null key, null value, no headers
	}
	at := len(dst)
	var header [HeaderSize]byte
	dst = fillerEncoder().EncodeAll(records, append(dst, header[:]...))
	h := Header(dst[at:])
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-sizePrefix))
	h.SetLeaderEpoch(noLeaderEpoch)
	h[atMagic] = 2
	h.setAttributes(int16(codecZstd))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(count-1))
	for i := atBaseTimestamp; i < atProducerID; i++ {
		h[i] = 0xff // base and maximal timestamp -1
	}
	h.setNoProducer()
	binary.BigEndian.PutUint32(h[atCount:], uint32(count))
	h.setCRC(crc32.Checksum(h[atAttributes:], castagnoli))
	return dst
}
