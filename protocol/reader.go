package protocol

import (
	"encoding/binary"
	"fmt"
)

// Reader reads the fields of one message in place.
//
// It never allocates and never panics. Past the end, or after an impossible length, every method
// returns zero values and Err returns an error. Counts are bounded by the bytes that are left, so
// that a loop over a hostile count ends. (kmsg does not bound the number of tags: a client could
// keep it busy for minutes with a few bytes. So klink decodes nothing that comes from a client with
// kmsg before it has checked the shape.)
type Reader struct {
	// Buf is the frame. Slices that the methods return alias it.
	Buf []byte
	// At is the position of the next byte in Buf.
	At int
	// Flexible selects compact lengths and tagged fields (KIP-482).
	Flexible bool

	bad bool
}

// Err returns an error once a field could not be read.
func (r *Reader) Err() error {
	if !r.bad {
		return nil
	}
	return fmt.Errorf("%w: cut short or with an impossible length, in a frame of %d bytes", ErrMalformed, len(r.Buf))
}

// Ok reports whether every field so far could be read.
func (r *Reader) Ok() bool { return !r.bad }

// Left returns the number of bytes that have not been read.
func (r *Reader) Left() int { return len(r.Buf) - r.At }

func (r *Reader) fail() {
	r.bad = true
	r.At = len(r.Buf)
}

// Span returns the next n bytes.
func (r *Reader) Span(n int) []byte {
	if n < 0 || n > len(r.Buf)-r.At {
		r.fail()
		return nil
	}
	b := r.Buf[r.At : r.At+n : r.At+n]
	r.At += n
	return b
}

// Int8 reads an int8 or a bool.
func (r *Reader) Int8() int8 {
	if b := r.Span(1); b != nil {
		return int8(b[0])
	}
	return 0
}

// Int16 reads an int16.
func (r *Reader) Int16() int16 {
	if b := r.Span(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

// Int32 reads an int32.
func (r *Reader) Int32() int32 {
	if b := r.Span(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// Int64 reads an int64.
func (r *Reader) Int64() int64 {
	if b := r.Span(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// UUID reads a uuid.
func (r *Reader) UUID() (id [16]byte) {
	copy(id[:], r.Span(16))
	return id
}

// Uvarint reads an unsigned varint of at most 32 bits.
func (r *Reader) Uvarint() uint32 {
	v, n := uvarint(r.Buf[r.At:])
	if n <= 0 {
		r.fail()
		return 0
	}
	r.At += n
	return v
}

// uvarint decodes an unsigned varint of at most 32 bits. n is the number of bytes that it takes: 0
// if b is too short, -1 if b does not begin with such a varint.
func uvarint(b []byte) (v uint32, n int) {
	for i := range min(len(b), 5) {
		if i == 4 && b[i] > 0x0f {
			return 0, -1
		}
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) >= 5 {
		return 0, -1
	}
	return 0, 0
}

// appendUvarint appends the shortest encoding of v.
func appendUvarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// length reads the length of a nullable field; -1 = null.
func (r *Reader) length(short bool) int {
	switch {
	case r.Flexible:
		return int(r.Uvarint()) - 1
	case short:
		return int(r.Int16())
	default:
		return int(r.Int32())
	}
}

// String reads a string; nil = null.
func (r *Reader) String() []byte {
	n := r.length(true)
	if n == -1 {
		return nil
	}
	if b := r.Span(n); b != nil || n != 0 {
		return b
	}
	return []byte{}
}

// Name reads a string that must not be null.
func (r *Reader) Name() []byte {
	name := r.String()
	if name == nil {
		r.fail()
	}
	return name
}

// Bytes reads bytes or records; nil = null.
func (r *Reader) Bytes() []byte {
	n := r.length(false)
	if n == -1 {
		return nil
	}
	return r.Span(n)
}

// Array reads the count of an array, 0 for null. Every element takes at least a byte, so a count
// above the number of bytes left is an error.
func (r *Reader) Array() int {
	n := r.length(false)
	if n > r.Left() || n < -1 {
		r.fail()
	}
	if r.bad {
		return 0
	}
	return max(n, 0)
}

// Int32s skips an array of int32.
func (r *Reader) Int32s() { r.Span(4 * r.Array()) }

// Tags skips a section of tagged fields. In versions that are not flexible it does nothing.
func (r *Reader) Tags() {
	if !r.Flexible {
		return
	}
	for n := r.Uvarint(); n > 0 && !r.bad; n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}
