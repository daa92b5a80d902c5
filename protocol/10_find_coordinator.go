package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// RewriteFindCoordinator rewrites the addresses in a FindCoordinator response, v0 to v6.
//
// Version notes: v1 throttle time and error message; v3 flexible; v4 an array of coordinators
// (KIP-699).
//
// Node -1 (none) stays. If a broker has no address at klink, unknown is true. Without hide the
// frame is then unchanged, and the caller must not send it. Set hide if klink cannot learn the
// address: that key then gets COORDINATOR_NOT_AVAILABLE, so that clients ask again.
func RewriteFindCoordinator(frame []byte, h RequestHeader, brokers Brokers, hide bool) (_ []byte, unknown bool, err error) {
	r := responseReader(frame, h)
	s := newSplice(frame, 64)
	if h.Version >= 1 {
		r.Int32() // throttle time
	}
	if h.Version <= 3 {
		code := r.Span(2)
		if h.Version >= 1 {
			r.String() // error message
		}
		unknown = rewriteCoordinator(s, &r, brokers, hide, code)
	} else {
		for n := r.Array(); n > 0 && r.Ok(); n-- {
			r.String() // key
			if rewriteCoordinator(s, &r, brokers, hide, nil) {
				unknown = true
			}
			r.Int16()  // error code
			r.String() // error message
			r.Tags()
		}
	}
	r.Tags()
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	return s.finish(), unknown, nil
}

// rewriteCoordinator rewrites node id, host and port. code is the error code if it stands before
// them, nil if it follows. rewriteCoordinator changes code in the frame before the frame is copied.
func rewriteCoordinator(s *splice, r *Reader, brokers Brokers, hide bool, code []byte) (unknown bool) {
	at := r.At
	id := r.Int32()
	r.String()
	r.Int32()
	if !r.Ok() || id < 0 {
		return false
	}
	host, port, ok := brokers.Address(id)
	if !ok {
		if !hide {
			return true
		}
		id, host, port = -1, "", -1
		if code == nil {
			after := *r
			code = after.Span(2)
		}
		if code == nil {
			return false // cut short; the caller finds that too
		}
		binary.BigEndian.PutUint16(code, uint16(kerr.CoordinatorNotAvailable.Code))
	}
	s.keep(at)
	s.dst = appendInt32(s.dst, id)
	s.dst = appendString(s.dst, r.Flexible, host)
	s.dst = appendInt32(s.dst, port)
	s.drop(r.At)
	return !ok
}
