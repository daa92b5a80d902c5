package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// record is one uncompressed record of a v2 batch, in place (KIP-82, KIP-98; Kafka's
// DefaultRecord).
type record struct {
	when        []byte // attributes and timestamp delta
	offsetDelta int32
	what        []byte // from the length of the key to the end of the headers
}

// nextRecord reads the record that b begins with, and returns the bytes behind it as rest. Like
// brokers and clients it checks every length, and that the parts fill the record exactly.
func nextRecord(b []byte) (r record, rest []byte, err error) {
	size, n := binary.Varint(b)
	if n <= 0 || size < 0 || size > int64(len(b)-n) {
		return r, nil, fmt.Errorf("%w: a record of %d bytes in %d", ErrMalformed, size, len(b))
	}
	body, rest := b[n:n+int(size)], b[n+int(size):]
	if len(body) == 0 {
		return r, nil, fmt.Errorf("%w: a record of no bytes", ErrMalformed)
	}
	at := 1 // the attributes; none of their bits is used
	if _, n = binary.Varint(body[at:]); n <= 0 {
		return r, nil, fmt.Errorf("%w: timestamp of a record", ErrMalformed)
	}
	at += n
	r.when = body[:at]
	delta, n := binary.Varint(body[at:])
	if n <= 0 || delta < 0 || delta > math.MaxInt32 {
		return r, nil, fmt.Errorf("%w: offset delta %d of a record", ErrMalformed, delta)
	}
	at += n
	r.offsetDelta, r.what = int32(delta), body[at:]
	if !filledByFields(r.what) {
		return r, nil, fmt.Errorf("%w: lengths within the record at offset delta %d", ErrMalformed, delta)
	}
	return r, rest, nil
}

// timestampDelta returns the timestamp relative to the batch's base timestamp, in milliseconds.
func (r record) timestampDelta() int64 {
	delta, _ := binary.Varint(r.when[1:])
	return delta
}

// filledByFields reports whether b is a key, a value and headers, and nothing else.
func filledByFields(b []byte) bool {
	b, ok := skipField(b, -1)
	if !ok {
		return false
	}
	if b, ok = skipField(b, -1); !ok {
		return false
	}
	headers, n := binary.Varint(b)
	if n <= 0 || headers < 0 {
		return false
	}
	for b = b[n:]; headers > 0; headers-- {
		if b, ok = skipField(b, 0); !ok { // a header's key is never null
			return false
		}
		if b, ok = skipField(b, -1); !ok {
			return false
		}
	}
	return len(b) == 0
}

// skipField skips bytes that follow their length; least = -1 if they may be null.
func skipField(b []byte, least int64) (rest []byte, ok bool) {
	size, n := binary.Varint(b)
	if n <= 0 || size < least || size > int64(len(b)-n) {
		return nil, false
	}
	return b[n+int(max(size, 0)):], true
}

// varintSize returns the number of bytes that binary.AppendVarint writes for v.
func varintSize(v int64) int {
	n := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// appendField appends the length of field, -1 for nil, and its bytes.
func appendField(dst, field []byte) []byte {
	if field == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(field))), field...)
}

// fieldSize returns the number of bytes that appendField appends.
func fieldSize(field []byte) int {
	if field == nil {
		return 1
	}
	return varintSize(int64(len(field))) + len(field)
}
