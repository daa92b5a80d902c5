package protocol

// TranslateOffsetForLeaderEpoch translates the end offsets of mirrors in an OffsetForLeaderEpoch
// response, v0 to v4, to logical ones, in place.
//
// Version notes: v1 leader epoch; v2 throttle time; v4 flexible. Leader epochs are those of the
// destination, here as in batches and Metadata.
func TranslateOffsetForLeaderEpoch(frame []byte, h RequestHeader, resolver Resolver) error {
	r := responseReader(frame, h)
	if h.Version >= 2 {
		r.Int32() // throttle time
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		m := topicByName(&r, resolver)
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			code := r.Span(2)
			v := viewOf(m, r.Int32()).answered(code)
			if h.Version >= 1 {
				r.Int32() // leader epoch
			}
			end := r.Span(8)
			r.Tags()
			if !r.Ok() {
				break
			}
			v.show(end, AtEnd)
			if v.Hidden {
				v.hideError(code)
			}
		}
		r.Tags()
	}
	r.Tags()
	return r.Err()
}
