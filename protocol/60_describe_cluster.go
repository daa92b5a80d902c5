package protocol

// endpointControllers is the endpoint type of controllers in DescribeCluster (KIP-919).
const endpointControllers = 2

// RewriteDescribeCluster rewrites the addresses in a DescribeCluster response, v0 to v2.
//
// Version notes: v1 endpoint type; v2 fenced brokers. Brokers that have no address at klink are
// left out, and unknown is true. Such a broker may be a fenced one, which no client can use.
// Clients do not reach controllers through klink: a broker answers a request for controllers with
// an error and an empty list, which passes unchanged.
func RewriteDescribeCluster(frame []byte, h RequestHeader, brokers Brokers) (_ []byte, unknown bool, err error) {
	r := responseReader(frame, h)
	r.Int32()  // throttle time
	r.Int16()  // error code
	r.String() // error message
	if h.Version >= 1 && r.Int8() == endpointControllers {
		return frame, false, r.Err()
	}
	r.String() // cluster id
	r.Int32()  // controller
	after := 0
	if h.Version >= 2 {
		after = 1 // fenced
	}
	s := newSplice(frame, 256)
	missing := rewriteBrokers(s, &r, brokers, true, after)
	r.Int32() // authorized operations
	r.Tags()
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	return s.finish(), len(missing) > 0, nil
}
