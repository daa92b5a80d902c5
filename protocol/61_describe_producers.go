package protocol

// TranslateDescribeProducers translates the transaction start offsets of mirrors in a
// DescribeProducers response, v0, to logical ones, in place.
func TranslateDescribeProducers(frame []byte, h RequestHeader, resolver Resolver) error {
	r := responseReader(frame, h)
	r.Int32() // throttle time
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		m := topicByName(&r, resolver)
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			v := viewOf(m, r.Int32())
			v = v.answered(r.Span(2))
			r.String() // error message
			for producers := r.Array(); producers > 0 && r.Ok(); producers-- {
				// producer id, epoch, last sequence, last timestamp, coordinator epoch
				r.Span(8 + 4 + 4 + 8 + 4)
				if start := r.Span(8); start != nil {
					v.show(start, AtRecord)
				}
				r.Tags()
			}
			r.Tags()
		}
		r.Tags()
	}
	r.Tags()
	return r.Err()
}
