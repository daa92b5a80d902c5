package wire

import "encoding/binary"

// reader reads the fields of a response one by one. Once something is missing, bad is set and every
// further field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.b, r.bad = nil, true
}

// bytes returns the next n bytes; they alias the response.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) int16() int16 {
	if b := r.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// uvarint reads an unsigned varint of at most 32 bits.
func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// length reads the length of the next field, -1 = null. The compact form is a varint of one more.
func (r *reader) length(flexible bool, plain func(*reader) int) int {
	if flexible {
		return int(r.uvarint()) - 1
	}
	return plain(r)
}

func (r *reader) short() int { return int(r.int16()) }
func (r *reader) long() int  { return int(r.int32()) }

// array reads the number of elements of an array, whose elements have at least least bytes each.
// null counts as empty.
func (r *reader) array(flexible bool, least int) int {
	n := r.length(flexible, (*reader).long)
	if n > len(r.b)/least {
		r.fail()
	}
	if r.bad {
		return 0
	}
	return max(n, 0)
}

// str reads a string, nil = null.
func (r *reader) str(flexible bool) []byte {
	if n := r.length(flexible, (*reader).short); n >= 0 {
		return r.bytes(n)
	}
	return nil
}

// blob reads a field of bytes, nil = null.
func (r *reader) blob(flexible bool) []byte {
	if n := r.length(flexible, (*reader).long); n >= 0 {
		return r.bytes(n)
	}
	return nil
}

func (r *reader) id() (id [16]byte) {
	copy(id[:], r.bytes(16))
	return id
}

// tags skips tagged fields (KIP-482).
func (r *reader) tags(flexible bool) {
	if !flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.bytes(int(r.uvarint()))
	}
}
