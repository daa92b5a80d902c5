package protocol

import "encoding/binary"

// splice builds a changed copy of a frame. keep copies bytes of src, drop skips them, and the
// caller appends replacements to dst. finish sets the size prefix.
type splice struct {
	src []byte
	dst []byte
	at  int // src[:at] has been kept or dropped
}

func newSplice(src []byte, extra int) *splice {
	return &splice{src: src, dst: make([]byte, 0, len(src)+extra)}
}

// keep copies src[at:to].
func (s *splice) keep(to int) {
	s.dst = append(s.dst, s.src[s.at:to]...)
	s.at = to
}

// drop leaves out src[at:to].
func (s *splice) drop(to int) { s.at = to }

func (s *splice) finish() []byte {
	s.keep(len(s.src))
	binary.BigEndian.PutUint32(s.dst, uint32(len(s.dst)-4))
	return s.dst
}

func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }

// appendCount appends the count of an array that is not null.
func appendCount(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return appendUvarint(dst, uint32(n)+1)
	}
	return appendInt32(dst, int32(n))
}

// appendString appends a string that is not null.
func appendString[S ~string | ~[]byte](dst []byte, flexible bool, s S) []byte {
	if flexible {
		dst = appendUvarint(dst, uint32(len(s))+1)
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	}
	return append(dst, s...)
}
