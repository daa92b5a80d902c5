package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// message is a message of format v0 or v1, in place (Kafka's LegacyRecord). A compressed message
// wraps others, which are its value.
//
//	offset      int64
//	size        int32, of what follows
//	crc         uint32, CRC-32 of what follows
//	magic       int8, 0 or 1
//	attributes  int8, bits 0-2 codec, bit 3 LogAppendTime (v1)
//	timestamp   int64, Unix milliseconds; v1 only (KIP-32)
//	key, value  int32 length and bytes; -1 = null
type message struct {
	offset     int64
	timestamp  int64 // -1 in v0
	key, value []byte
	magic      int8
	attributes int8
}

const (
	messageCRC        = 12 // the position of the checksum
	messageAttributes = 17
	messageTimestamp  = 18
	sizeOfV0          = 26 // of a message with null key and null value
	sizeOfV1          = 34
)

func (m message) codec() int8 { return m.attributes & int8(codecMask) }

func (m message) logAppendTime() bool {
	return m.magic > 0 && m.attributes&int8(bitLogAppendTime) != 0
}

// peekMessage reads the size in bytes of the message that b begins with, which may be more than b
// has. 0 = b is too short to tell. old is false if b begins with a batch of a later format.
func peekMessage(b []byte) (size int, old bool, err error) {
	if len(b) <= atMagic {
		return 0, true, nil
	}
	least := int64(sizeOfV0)
	switch magic := int8(b[atMagic]); {
	case magic < 0:
		return 0, false, fmt.Errorf("%w: magic %d", ErrMalformed, magic)
	case magic > 1:
		return 0, false, nil
	case magic == 1:
		least = sizeOfV1
	}
	length := int64(int32(binary.BigEndian.Uint32(b[atLength:])))
	if length < least-sizePrefix || length > math.MaxInt32-sizePrefix {
		return 0, true, fmt.Errorf("%w: message length %d at offset %d", ErrMalformed, length, Header(b).BaseOffset())
	}
	return int(length) + sizePrefix, true, nil
}

// readMessage reads b, a whole message by the size of peekMessage. The error wraps ErrCorrupt or
// ErrMalformed.
func readMessage(b []byte) (message, error) {
	m := message{
		offset: int64(binary.BigEndian.Uint64(b)), timestamp: -1,
		magic: int8(b[atMagic]), attributes: int8(b[messageAttributes]),
	}
	if binary.BigEndian.Uint32(b[messageCRC:]) != crc32.ChecksumIEEE(b[atMagic:]) {
		return m, fmt.Errorf("%w: wrong checksum of the message at offset %d", ErrCorrupt, m.offset)
	}
	rest := b[messageTimestamp:]
	if m.magic == 1 {
		m.timestamp = int64(binary.BigEndian.Uint64(rest))
		rest = rest[8:]
	}
	var ok bool
	if m.key, rest, ok = messageField(rest); ok {
		m.value, rest, ok = messageField(rest)
	}
	if !ok || len(rest) != 0 {
		return m, fmt.Errorf("%w: lengths within the message at offset %d", ErrMalformed, m.offset)
	}
	return m, nil
}

// messageField reads a key or a value. It returns nil for null, and never nil for an empty field.
func messageField(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	size := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case size == -1:
		return nil, b, true
	case size < 0 || int(size) > len(b):
		return nil, nil, false
	}
	return b[:size:size], b[size:], true
}
