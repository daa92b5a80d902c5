package protocol

import "encoding/binary"

// RewriteDescribeQuorum rewrites the addresses in a DescribeQuorum response. Only v2 has addresses
// (KIP-853).
//
// They are the listeners of the controllers. A controller that is also a broker gets its address at
// klink. Any other controller keeps its address: klink has no listener for it, clients do not
// connect to the addresses in this response, and tools print the list.
func RewriteDescribeQuorum(frame []byte, h RequestHeader, brokers Brokers) ([]byte, error) {
	if h.Version < 2 {
		return frame, nil
	}
	r := responseReader(frame, h)
	s := newSplice(frame, 64)
	r.Int16()  // error code
	r.String() // error message
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		r.String()
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			r.Span(4 + 2) // index, error code
			r.String()    // error message
			r.Span(4 + 4 + 8)
			for range 2 { // voters, observers
				for n := r.Array(); n > 0 && r.Ok(); n-- {
					r.Span(4 + 16 + 8 + 8 + 8)
					r.Tags()
				}
			}
			r.Tags()
		}
		r.Tags()
	}
	for nodes := r.Array(); nodes > 0 && r.Ok(); nodes-- {
		host, port, ok := brokers.Address(r.Int32())
		for listeners := r.Array(); listeners > 0 && r.Ok(); listeners-- {
			r.String() // name
			at := r.At
			r.String()
			r.Int16()
			if ok && r.Ok() {
				s.keep(at)
				s.dst = appendString(s.dst, true, host)
				s.dst = binary.BigEndian.AppendUint16(s.dst, uint16(port))
				s.drop(r.At)
			}
			r.Tags()
		}
		r.Tags()
	}
	r.Tags()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s.finish(), nil
}
