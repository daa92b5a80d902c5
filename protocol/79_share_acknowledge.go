package protocol

// RewriteShareAcknowledge rewrites the node endpoints of a ShareAcknowledge response, v0 to v2.
// Version notes: v2 acquisition lock time-out. It leaves out brokers that have no address at klink;
// clients then ask for Metadata.
func RewriteShareAcknowledge(frame []byte, h RequestHeader, brokers Brokers) ([]byte, error) {
	r := responseReader(frame, h)
	r.Int32()  // throttle time
	r.Int16()  // error code
	r.String() // error message
	if h.Version >= 2 {
		r.Int32() // acquisition lock time-out
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		r.UUID()
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			r.Int32()  // index
			r.Int16()  // error code
			r.String() // error message
			r.Span(8)  // current leader
			r.Tags()
			r.Tags()
		}
		r.Tags()
	}
	s := newSplice(frame, 64)
	s.keep(r.At)
	s.dst, _ = rewriteEndpoints(s.dst, &r, brokers)
	s.drop(r.At)
	r.Tags()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s.finish(), nil
}
