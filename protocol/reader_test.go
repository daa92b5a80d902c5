package protocol

import (
	"bytes"
	"errors"
	"testing"
)

func TestUvarint(t *testing.T) {
	for _, v := range []uint32{0, 1, 127, 128, 16383, 16384, 1<<21 - 1, 1 << 21, 1<<28 - 1, 1 << 28, 1<<32 - 1} {
		b := appendUvarint(nil, v)
		if got, n := uvarint(append(b, 0xff)); got != v || n != len(b) {
			t.Errorf("%d: got %d of %d bytes", v, got, n)
		}
		for cut := range b {
			if _, n := uvarint(b[:cut]); n != 0 {
				t.Errorf("%d cut to %d bytes: %d", v, cut, n)
			}
		}
	}
	for _, b := range [][]byte{{0xff, 0xff, 0xff, 0xff, 0x10}, {0x80, 0x80, 0x80, 0x80, 0x80}, {0x80, 0x80, 0x80, 0x80, 0x80, 0}} {
		if _, n := uvarint(b); n >= 0 {
			t.Errorf("% x: %d", b, n)
		}
	}
}

// Any hostile length ends the reading at once.
func TestReaderRefuses(t *testing.T) {
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	for _, c := range []struct {
		name     string
		flexible bool
		bytes    []byte
		read     func(*Reader)
	}{
		{"short int", false, []byte{0}, func(r *Reader) { r.Int16() }},
		{"string past the end", false, []byte{0, 2, 'x'}, func(r *Reader) { r.String() }},
		{"negative string", false, []byte{0xff, 0xfe}, func(r *Reader) { r.String() }},
		{"compact string past the end", true, many, func(r *Reader) { r.String() }},
		{"bytes past the end", false, []byte{0x7f, 0xff, 0xff, 0xff}, func(r *Reader) { r.Bytes() }},
		{"array past the end", false, []byte{0, 0, 0, 2, 1}, func(r *Reader) { r.Array() }},
		{"negative array", false, []byte{0xff, 0xff, 0xff, 0xfe}, func(r *Reader) { r.Array() }},
		{"four billion elements", true, many, func(r *Reader) { r.Array() }},
		{"four billion tags", true, many, func(r *Reader) { r.Tags() }},
		{"a tag of four gigabytes", true, append([]byte{1, 0}, many...), func(r *Reader) { r.Tags() }},
		{"int32s past the end", false, []byte{0, 0, 0, 1, 1}, func(r *Reader) { r.Int32s() }},
		{"uuid", false, make([]byte, 15), func(r *Reader) { r.UUID() }},
	} {
		r := Reader{Buf: c.bytes, Flexible: c.flexible}
		c.read(&r)
		if err := r.Err(); !errors.Is(err, ErrMalformed) || r.Left() != 0 {
			t.Errorf("%s: %v, %d bytes left", c.name, err, r.Left())
		}
	}
}

func TestReaderNull(t *testing.T) {
	for _, flexible := range []bool{false, true} {
		null, empty := []byte{0xff, 0xff}, []byte{0, 0}
		if flexible {
			null, empty = []byte{0}, []byte{1}
		}
		r := Reader{Buf: null, Flexible: flexible}
		if s := r.String(); s != nil || !r.Ok() || r.Left() != 0 {
			t.Errorf("null: %q, %v", s, r.Err())
		}
		r = Reader{Buf: empty, Flexible: flexible}
		if s := r.String(); s == nil || len(s) != 0 || !r.Ok() {
			t.Errorf("empty: %q, %v", s, r.Err())
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x01\x02ab\x00\x00\x00\x01xyz"), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, true)
	f.Add(bytes.Repeat([]byte{0xff}, 40), []byte{4, 5, 6}, false)
	f.Fuzz(func(t *testing.T, b, calls []byte, flexible bool) {
		r := Reader{Buf: b, Flexible: flexible}
		for _, c := range calls {
			before := r.At
			switch c % 9 {
			case 0:
				r.Int8()
			case 1:
				r.Int32()
			case 2:
				r.Int64()
			case 3:
				r.UUID()
			case 4:
				r.String()
			case 5:
				r.Bytes()
			case 6:
				if n := r.Array(); n < 0 || n > r.Left() {
					t.Fatalf("array of %d where %d bytes are left", n, r.Left())
				}
			case 7:
				r.Tags()
			case 8:
				r.Int32s()
			}
			if r.At < before || r.At > len(b) {
				t.Fatalf("went from %d to %d of %d", before, r.At, len(b))
			}
		}
	})
}
