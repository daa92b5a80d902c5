package core

import (
	"encoding/binary"
	"hash/crc32"
)

// headerOnly returns a v2 batch with the given header fields, and payload in place of records: no
// code that uses it reads records.
func headerOnly(base int64, count int32, attributes int16, payload int) []byte {
	b := make([]byte, 61+payload)
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], 3) // leader epoch
	b[16] = 2
	binary.BigEndian.PutUint16(b[21:], uint16(attributes))
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[27:], 1000)
	binary.BigEndian.PutUint64(b[35:], 2000)
	for i := 43; i < 57; i++ {
		b[i] = 0xff // no producer
	}
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	for i := 61; i < len(b); i++ {
		b[i] = byte(base) + byte(i)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
