package protocol

// TopicOperations reads a Metadata response, v8 to v13, and calls each for every topic without an
// error, with the operations that the client may do on it: bit n stands for the operation with code
// n (KIP-430). operations is math.MinInt32 if the broker does not say. topic aliases the frame.
func TopicOperations(frame []byte, h RequestHeader, each func(topic []byte, operations int32)) error {
	r := responseReader(frame, h)
	r.Int32() // throttle time
	for brokers := r.Array(); brokers > 0 && r.Ok(); brokers-- {
		readBroker(&r, true, 0)
	}
	r.String() // cluster id
	r.Int32()  // controller
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		code := r.Int16()
		name := r.String()
		if h.Version >= 10 {
			r.UUID()
		}
		r.Int8() // internal
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			metadataPartition(&r, h.Version, false, nil)
		}
		operations := r.Int32()
		r.Tags()
		if code == 0 && r.Ok() {
			each(name, operations)
		}
	}
	return r.Err()
}
