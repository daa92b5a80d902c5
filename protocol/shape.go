package protocol

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
)

// A Shape lists the fields of a message in the order they have on the wire. Check walks a body by it before the body is
// decoded with kmsg.
//
// It is needed because kmsg believes what it reads in two places: an array is allocated for as many elements as there
// are bytes left, whatever an element takes (a hundredfold of the frame), and a tag section is gone through for as many
// rounds as its count says, even after the bytes have run out (up to four billion).
type Shape []ShapeField

// ShapeField is one field of a Shape; make it with Fixed, String, Strings, FixedArray or Structs.
type ShapeField struct {
	kind     shapeKind
	size     int   // of a fixed-size field, or of an element of an array of such
	from, to int16 // the versions that have it
	fields   Shape // of an element of an array of structs
}

type shapeKind uint8

const (
	shapeFixed shapeKind = iota
	shapeString
	shapeFixedArray
	shapeStringArray
	shapeStructArray
)

const maxVersion = 1<<15 - 1

// Fixed is a field of size bytes in every version: a number, a boolean or a uuid. Several in a row may be one.
func Fixed(size int) ShapeField { return ShapeField{kind: shapeFixed, size: size, to: maxVersion} }

// String is a string or bytes field, nullable or not.
func String() ShapeField { return ShapeField{kind: shapeString, to: maxVersion} }

// FixedArray is an array, nullable or not, of numbers of size bytes.
func FixedArray(size int) ShapeField {
	return ShapeField{kind: shapeFixedArray, size: size, to: maxVersion}
}

// Strings is an array of strings, nullable or not.
func Strings() ShapeField { return ShapeField{kind: shapeStringArray, to: maxVersion} }

// Structs is an array of structs, nullable or not, which have tags of their own in flexible versions.
func Structs(fields ...ShapeField) ShapeField {
	return ShapeField{kind: shapeStructArray, fields: fields, to: maxVersion}
}

// From limits a field to versions >= version.
func (f ShapeField) From(version int16) ShapeField { f.from = version; return f }

// To limits a field to versions <= version.
func (f ShapeField) To(version int16) ShapeField { f.to = version; return f }

// Check walks a body of this shape. After it kmsg ends, and allocates about 100 bytes at most for each element, beside the
// bytes of its strings. A body with more than maxElements array elements, strings and tags is refused. Bytes after the
// last field are ignored, as brokers do. Errors wrap ErrMalformed.
func (s Shape) Check(body []byte, version int16, flexible bool, maxElements int) error {
	w := shapeWalk{r: kbin.Reader{Src: body}, version: version, flexible: flexible, left: maxElements}
	w.fields(s)
	switch {
	case w.left < 0:
		return fmt.Errorf("%w: more than %d elements in a body of %d bytes", ErrMalformed, maxElements, len(body))
	case !w.r.Ok():
		return fmt.Errorf("%w: a body of %d bytes is cut short or has a bad length in it", ErrMalformed, len(body))
	}
	return nil
}

type shapeWalk struct {
	r        kbin.Reader
	version  int16
	flexible bool
	left     int // elements
}

func (w *shapeWalk) ok() bool { return w.r.Ok() && w.left >= 0 }

// fields walks one struct with its tags.
func (w *shapeWalk) fields(s Shape) {
	for i := range s {
		f := &s[i]
		if w.version < f.from || w.version > f.to {
			continue
		}
		if !w.ok() {
			return
		}
		switch f.kind {
		case shapeFixed:
			w.r.Span(f.size)
		case shapeString:
			w.string()
		case shapeFixedArray:
			n := w.arrayLen()
			if w.r.Span(n * f.size); !w.r.Ok() {
				return
			}
		case shapeStringArray:
			for n := w.arrayLen(); n > 0 && w.ok(); n-- {
				w.string()
			}
		case shapeStructArray:
			for n := w.arrayLen(); n > 0 && w.ok(); n-- {
				w.fields(f.fields)
			}
		}
	}
	if w.flexible {
		w.tags()
	}
}

// string skips a string; what is null is up to kmsg.
func (w *shapeWalk) string() {
	n := 0
	if w.flexible {
		n = int(w.r.Uvarint()) - 1
	} else {
		n = int(w.r.Int16())
	}
	if n > 0 {
		w.r.Span(n)
	}
	w.left--
}

// arrayLen reads an array's length, 0 for null. An element takes at least a byte, so a longer one than the bytes left is
// a fault at once.
func (w *shapeWalk) arrayLen() int {
	n := 0
	if w.flexible {
		n = int(w.r.Uvarint()) - 1
	} else {
		n = int(w.r.Int32())
	}
	if n <= 0 {
		return 0
	}
	if n > len(w.r.Src) {
		w.r.Span(n) // marks the reader bad
		return 0
	}
	w.left -= n
	return n
}

func (w *shapeWalk) tags() {
	for n := w.r.Uvarint(); n > 0 && w.ok(); n-- {
		w.left--
		w.r.Uvarint()
		w.r.Span(int(w.r.Uvarint()))
	}
}
