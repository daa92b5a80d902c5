package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// Where the fields of a v2 record batch begin.
const (
	atBatchLength     = 8
	atBatchCRC        = 17
	atBatchAttributes = 21
	atLastOffsetDelta = 23
	batchHead         = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// RecordBatch makes a v2 batch of exactly size bytes that nothing can compress, in records of about
// a kilobyte. Its base offset is 0.
func RecordBatch(size int, seed uint64) []byte {
	const perRecord = 1 << 10
	b := make([]byte, batchHead, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	count := 0
	for len(b) < size {
		room := size - len(b)
		if room > perRecord+minRecord {
			room = perRecord
			if len(b)+room+impossibleRecord == size {
				room--
			}
		}
		b = appendRecord(b, room, count, src)
		count++
	}
	binary.BigEndian.PutUint32(b[atBatchLength:], uint32(len(b)-atBatchLength-4))
	binary.BigEndian.PutUint32(b[12:], 0xffffffff)                                 // leader epoch
	b[16] = 2                                                                      // magic
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(count-1))             // last offset delta
	now := uint64(time.Now().UnixMilli())                                          // or retention deletes it
	binary.BigEndian.PutUint64(b[27:], now)                                        // base timestamp
	binary.BigEndian.PutUint64(b[35:], now)                                        // max timestamp
	binary.BigEndian.PutUint64(b[43:], 0xffffffffffffffff)                         // producer id
	binary.BigEndian.PutUint16(b[51:], 0xffff)                                     // producer epoch
	binary.BigEndian.PutUint32(b[53:], 0xffffffff)                                 // base sequence
	binary.BigEndian.PutUint32(b[57:], uint32(count))                              // records
	binary.BigEndian.PutUint32(b[atBatchCRC:], crc32.Checksum(b[21:], castagnoli)) // from the attributes on
	return b
}

// RecordsOf returns the number of records, and so of offsets, in a batch.
func RecordsOf(batch []byte) int64 {
	return int64(binary.BigEndian.Uint32(batch[atLastOffsetDelta:])) + 1
}

const (
	// minRecord is the smallest size of a record here.
	minRecord = 16
	// impossibleRecord is a size that no record has: from the next size on the record's length
	// takes one byte more.
	impossibleRecord = 65
)

// appendRecord appends a record of exactly size bytes, its length included: no key, no headers.
func appendRecord(b []byte, size, delta int, src *rand.ChaCha8) []byte {
	// Both lengths in a record are varints, whose own size depends on what they count. So some
	// sizes are impossible with a timestamp delta of one byte; they are possible with one of two
	// bytes.
	for _, timestampDelta := range [][]byte{{0}, {0x80, 0x01}} {
		head := append([]byte{0}, timestampDelta...) // the attributes
		head = binary.AppendVarint(head, int64(delta))
		head = binary.AppendVarint(head, -1) // null key
		for value := size; value >= 0; value-- {
			body := len(head) + len(binary.AppendVarint(nil, int64(value))) + value + 1 // 1: no headers
			if len(binary.AppendVarint(nil, int64(body)))+body != size {
				continue
			}
			b = binary.AppendVarint(b, int64(body))
			b = append(b, head...)
			b = binary.AppendVarint(b, int64(value))
			at := len(b)
			b = append(b, make([]byte, value)...)
			_, _ = src.Read(b[at:])
			return append(b, 0)
		}
	}
	panic(fmt.Sprintf("wire: no record of %d bytes", size))
}
