package protocol

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestShape(t *testing.T) {
	u := binary.AppendUvarint
	long := u(nil, 1<<32-1)
	for _, c := range []struct {
		name     string
		shape    Shape
		version  int16
		flexible bool
		body     []byte
		ok       bool
	}{
		{"nothing", Shape{}, 0, false, nil, true},
		{"nothing, without its tags", Shape{}, 0, true, nil, false},
		{"more than there should be", Shape{}, 0, false, []byte{1}, true},
		{"a field of a later version", Shape{Fixed(4).From(2)}, 1, false, nil, true},
		{"a field of this version, missing", Shape{Fixed(4).From(2)}, 2, false, nil, false},
		{"a field of earlier versions", Shape{Fixed(4).To(2)}, 3, false, nil, true},
		{"null string", Shape{String()}, 0, false, []byte{0xff, 0xff}, true},
		{"null compact string", Shape{String()}, 0, true, []byte{0, 0}, true},
		{"string longer than the body", Shape{String()}, 0, false, []byte{0, 3, 'a', 'b'}, false},
		{"compact string longer than the body", Shape{String()}, 0, true, append(long, 'a'), false},
		{"null array", Shape{Structs(Fixed(1))}, 0, false, []byte{0xff, 0xff, 0xff, 0xff}, true},
		{"array longer than the body", Shape{Structs(Fixed(1))}, 0, false, []byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3}, false},
		{"compact array longer than the body", Shape{Strings()}, 0, true, append(long, 1, 1, 1), false},
		{"array that could fit but does not", Shape{Structs(String(), String())}, 0, true, u(nil, 9), false},
		{"numbers that could fit but do not", Shape{FixedArray(4)}, 0, false, []byte{0, 0, 0, 3, 1, 2, 3, 4, 1, 2, 3, 4}, false},
		{"four billion tags", Shape{}, 0, true, append(long, 1, 1, 1), false},
		{"tag longer than the body", Shape{}, 0, true, append([]byte{1, 0}, long...), false},
		{"array of nothing", Shape{Structs()}, 0, false, append([]byte{0, 0, 0, 100}, make([]byte, 100)...), true},
		{"more elements than allowed", Shape{Structs()}, 0, false, append([]byte{0, 0, 0, 101}, make([]byte, 101)...), false},
		{"more strings than allowed", Shape{Strings()}, 0, true, append(u(nil, 60), make([]byte, 60)...), false},
		{"more tags than allowed", Shape{}, 0, true, append([]byte{101}, make([]byte, 202)...), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.shape.Check(c.body, c.version, c.flexible, 100)
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
		})
	}
}
