package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// HideShareGroupOffsets sets the offsets of mirrors in a DescribeShareGroupOffsets response, v0 and
// v1, to unknown, in place. Share groups cannot read mirrors, so somebody set those offsets around
// klink, and they are physical. Such partitions get the error INVALID_REQUEST. Version notes: v1
// lag (KIP-1226).
func HideShareGroupOffsets(frame []byte, h RequestHeader, resolver Resolver) error {
	r := responseReader(frame, h)
	r.Int32() // throttle time
	for groups := r.Array(); groups > 0 && r.Ok(); groups-- {
		r.String() // group
		for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
			m := topicByName(&r, resolver)
			r.UUID()
			for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
				v := viewOf(m, r.Int32())
				start := r.Span(8)
				r.Int32() // leader epoch
				var lag []byte
				if h.Version >= 1 {
					lag = r.Span(8)
				}
				code := r.Span(2)
				r.String() // error message
				r.Tags()
				if !r.Ok() || v.Dry || v.Timeline == nil && !v.Hidden {
					continue
				}
				putUnknown(start)
				if lag != nil {
					putUnknown(lag)
				}
				if binary.BigEndian.Uint16(code) == 0 {
					binary.BigEndian.PutUint16(code, uint16(kerr.InvalidRequest.Code))
				}
			}
			r.Tags()
		}
		r.Int16()  // error code
		r.String() // error message
		r.Tags()
	}
	r.Tags()
	return r.Err()
}
