package protocol

import (
	"fmt"
	"math"
)

//go:generate go run ../internal/shapegen shapes.go

// A Shape lists the fields of a message in the order they have on the wire. Check walks a body by
// it before kmsg decodes the body.
//
// It is needed because kmsg trusts two numbers that it reads. It allocates as many elements for an
// array as there are bytes left, however large an element is: a hundredfold of the frame. And it
// loops as often as the count of a tag section says, even after the bytes have run out: up to four
// billion times.
type Shape []ShapeField

// ShapeField is one field of a Shape; make it with Fixed, String, Bytes, Strings, FixedArray,
// Structs, Struct, Nullable or Tagged.
type ShapeField struct {
	kind     shapeKind
	size     int    // of a fixed-size field, or of an element of an array of fixed-size fields
	memory   int    // bytes that kmsg allocates for an element of an array of structs
	from, to int16  // the versions that have it
	tag      int64  // the number of a tagged field; -1 = not a tagged field
	fields   Shape  // of a struct
	id       IDKind // of a string, or of the strings of an array, in namedIDs
	key      bool   // the field is a part of the key of its struct
	keyed    bool   // an array of structs that brokers keep by their keys; see crowd.go
}

type shapeKind uint8

const (
	shapeFixed shapeKind = iota
	shapeString
	shapeBytes
	shapeFixedArray
	shapeStringArray
	shapeStructArray
	shapeStruct
	shapeNullable
)

const maxVersion = 1<<15 - 1

func shapeField(kind shapeKind, size int, fields Shape) ShapeField {
	return ShapeField{kind: kind, size: size, memory: structMemory, to: maxVersion, tag: -1, fields: fields}
}

// Fixed is a field of size bytes in every version: a number, a boolean or a uuid. One Fixed may
// stand for several such fields in a row.
func Fixed(size int) ShapeField { return shapeField(shapeFixed, size, nil) }

// String is a string field, nullable or not.
func String() ShapeField { return shapeField(shapeString, 0, nil) }

// Bytes is a field of bytes or records, nullable or not. It differs from String only in versions
// that are not flexible.
func Bytes() ShapeField { return shapeField(shapeBytes, 0, nil) }

// FixedArray is an array of numbers of size bytes, nullable or not.
func FixedArray(size int) ShapeField { return shapeField(shapeFixedArray, size, nil) }

// Strings is an array of strings, nullable or not.
func Strings() ShapeField { return shapeField(shapeStringArray, 0, nil) }

// Structs is an array of structs, nullable or not. Each struct has tags of its own in flexible
// versions.
func Structs(fields ...ShapeField) ShapeField { return shapeField(shapeStructArray, 0, fields) }

// Struct is a single struct, with tags of its own in flexible versions.
func Struct(fields ...ShapeField) ShapeField { return shapeField(shapeStruct, 0, fields) }

// Nullable is a Struct behind a byte that is -1 if the struct is null.
func Nullable(fields ...ShapeField) ShapeField { return shapeField(shapeNullable, 0, fields) }

// Tagged is a tagged field that kmsg decodes. It may stand anywhere among the fields of its struct.
func Tagged(number uint32, f ShapeField) ShapeField { f.tag = int64(number); return f }

// From limits a field to versions >= version.
func (f ShapeField) From(version int16) ShapeField { f.from = version; return f }

// To limits a field to versions <= version.
func (f ShapeField) To(version int16) ShapeField { f.to = version; return f }

// Of sets how many bytes an element of an array of structs takes in memory when it is decoded.
func (f ShapeField) Of(memory int) ShapeField { f.memory = memory; return f }

// Key makes a number or a string a part of the key of its struct.
func (f ShapeField) Key() ShapeField { f.key = true; return f }

// Keyed marks an array of structs whose elements brokers keep in a hash table by their keys.
func (f ShapeField) Keyed() ShapeField { f.keyed = true; return f }

// Bytes of memory that a decoder is assumed to take.
const (
	structMemory = 128 // for a struct whose size has not been said
	stringMemory = 32  // for a string or bytes, beside the content
	tagMemory    = 128 // for an unknown tag, which goes into a map
	mapMemory    = 512 // for the map of a struct that has unknown tags
)

// Limits bound what may be decoded. Zero means no limit.
type Limits struct {
	// Elements bounds the number of array elements, strings and tags.
	Elements int
	// Memory bounds the bytes that they take, approximately, once kmsg has decoded them.
	Memory int
}

// Check walks a body of this shape. If Check succeeds, kmsg ends on the body, and allocates at most
// about 100 bytes for each element, beside the bytes of its strings. Check refuses a body with more
// than maxElements array elements, strings and tags. Like brokers, it ignores bytes after the last
// field. Errors wrap ErrMalformed.
func (s Shape) Check(body []byte, version int16, flexible bool, maxElements int) error {
	return s.CheckParts([][]byte{body}, version, flexible, Limits{Elements: maxElements})
}

// CheckParts is Check for a body that lies in several parts. It does not keep parts.
func (s Shape) CheckParts(parts [][]byte, version int16, flexible bool, limits Limits) error {
	w := shapeWalk{version: version, flexible: flexible, elements: math.MaxInt, memory: math.MaxInt}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	w.rest, w.left = parts, size
	if limits.Elements > 0 {
		w.elements = limits.Elements
	}
	if limits.Memory > 0 {
		w.memory = limits.Memory
	}
	w.fields(s)
	switch {
	case w.elements < 0:
		return fmt.Errorf("%w: more than %d elements in a body of %d bytes", ErrMalformed, limits.Elements, size)
	case w.memory < 0:
		return fmt.Errorf("%w: a body of %d bytes would take more than %d bytes of memory", ErrMalformed, size, limits.Memory)
	case w.bad:
		return fmt.Errorf("%w: a body of %d bytes is cut short or has a bad length in it", ErrMalformed, size)
	}
	return nil
}

type shapeWalk struct {
	shapeParts
	version  int16
	flexible bool
	elements int // that are still allowed
	memory   int // that is still allowed
	crowd    *crowd
}

func (w *shapeWalk) ok() bool {
	return !w.bad && w.elements >= 0 && w.memory >= 0 && (w.crowd == nil || w.crowd.steps >= 0)
}

// take accounts for elements and for the memory of each.
func (w *shapeWalk) take(elements, memory int) {
	w.elements -= elements
	w.memory -= elements * memory
}

// fields walks one struct with its tags.
func (w *shapeWalk) fields(s Shape) {
	for i := range s {
		f := &s[i]
		if f.tag >= 0 || w.version < f.from || w.version > f.to {
			if f.key && w.crowd != nil {
				w.crowd.add(0) // the broker hashes the field's default value
			}
			continue
		}
		if !w.ok() {
			return
		}
		if f.key && w.crowd != nil {
			w.crowd.add(w.hash(f))
		} else {
			w.field(f)
		}
	}
	if w.flexible && w.ok() {
		w.tags(s)
	}
}

func (w *shapeWalk) field(f *ShapeField) {
	switch f.kind {
	case shapeFixed:
		w.skip(f.size)
	case shapeString:
		w.text(false)
	case shapeBytes:
		w.text(true)
	case shapeFixedArray:
		n := w.arrayLen()
		w.take(n, f.size)
		w.skip(n * f.size)
	case shapeStringArray:
		for n := w.arrayLen(); n > 0 && w.ok(); n-- {
			w.take(1, 0)
			w.text(false)
		}
	case shapeStructArray:
		n := w.arrayLen()
		w.take(n, f.memory)
		if f.keyed && w.crowd != nil {
			w.keyed(f, n)
			return
		}
		for ; n > 0 && w.ok(); n-- {
			w.fields(f.fields)
		}
	case shapeStruct:
		w.fields(f.fields)
	case shapeNullable:
		if int8(w.byte()) != -1 {
			w.take(1, f.memory)
			w.fields(f.fields)
		}
	}
}

// text skips a string or bytes. kmsg decides whether the field may be null.
func (w *shapeWalk) text(long bool) {
	n := w.textLen(long)
	w.skip(n)
	w.take(1, stringMemory)
	w.memory -= n
}

// textLen reads the length of a string or bytes, 0 for null.
func (w *shapeWalk) textLen(long bool) (n int) {
	switch {
	case w.flexible:
		n = int(w.uvarint()) - 1
	case long:
		n = w.int32()
	default:
		n = w.int16()
	}
	return max(n, 0)
}

// arrayLen reads the length of an array, 0 for null. An element takes at least a byte, so a length
// above the number of bytes left fails at once.
func (w *shapeWalk) arrayLen() int {
	n := 0
	if w.flexible {
		n = int(w.uvarint()) - 1
	} else {
		n = w.int32()
	}
	if n > w.left {
		w.fail()
	}
	if w.bad {
		return 0
	}
	return max(n, 0)
}

func (w *shapeWalk) tags(s Shape) {
	unknown := false
	for n := w.uvarint(); n > 0 && w.ok(); n-- {
		number, size := int64(w.uvarint()), int(w.uvarint())
		if size > w.left {
			w.fail()
			return
		}
		if f := s.tagged(number); f != nil && w.version >= f.from && w.version <= f.to {
			// kmsg decodes the field from these bytes alone.
			behind := w.left - size
			w.left = size
			w.take(1, 0)
			if w.field(f); !w.bad {
				w.skip(w.left)
				w.left = behind
			}
			continue
		}
		if !unknown {
			unknown = true
			w.memory -= mapMemory
		}
		w.take(1, tagMemory)
		w.memory -= size
		w.skip(size)
	}
}

func (s Shape) tagged(number int64) *ShapeField {
	for i := range s {
		if s[i].tag == number {
			return &s[i]
		}
	}
	return nil
}

// shapeParts reads numbers from bytes that lie in several parts.
type shapeParts struct {
	part []byte
	rest [][]byte
	left int // bytes in part and parts
	bad  bool
}

func (r *shapeParts) fail() {
	r.part, r.rest, r.left, r.bad = nil, nil, 0, true
}

func (r *shapeParts) skip(n int) {
	if n < 0 || n > r.left {
		r.fail()
		return
	}
	r.left -= n
	for n > len(r.part) {
		n -= len(r.part)
		r.part, r.rest = r.rest[0], r.rest[1:]
	}
	r.part = r.part[n:]
}

func (r *shapeParts) byte() byte {
	if r.left == 0 {
		r.fail()
		return 0
	}
	for len(r.part) == 0 {
		r.part, r.rest = r.rest[0], r.rest[1:]
	}
	b := r.part[0]
	r.part = r.part[1:]
	r.left--
	return b
}

func (r *shapeParts) int16() int { return int(int16(uint16(r.byte())<<8 | uint16(r.byte()))) }

func (r *shapeParts) int32() int {
	v := uint32(0)
	for range 4 {
		v = v<<8 | uint32(r.byte())
	}
	return int(int32(v))
}

// uvarint reads a varint as kmsg does: at most 32 bits in at most five bytes.
func (r *shapeParts) uvarint() uint32 {
	v := uint32(0)
	for i := range 5 {
		b := r.byte()
		if i == 4 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}
