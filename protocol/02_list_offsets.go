package protocol

import "encoding/binary"

// TranslateListOffsets makes the offsets of mirrors in a ListOffsets response logical, in place, v0 to v11.
//
// Version notes: v0 has an array of offsets, later ones a timestamp and one offset; v2 throttle time; v4 leader epoch; v6
// flexible. Offset -1 (nothing found) stays. The request needs no change: it asks by timestamp.
func TranslateListOffsets(frame []byte, h RequestHeader, resolver Resolver) error {
	r := responseReader(frame, h)
	if h.Version >= 2 {
		r.Int32() // throttle time
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		m := topicByName(&r, resolver)
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			index := r.Int32()
			code := r.Span(2)
			v := viewOf(m, index)
			if h.Version == 0 {
				offsets := r.Span(8 * r.Array())
				for ; len(offsets) > 0; offsets = offsets[8:] {
					v.show(offsets[:8], AtEnd)
				}
			} else {
				timestamp := r.Int64()
				if offset := r.Span(8); offset != nil {
					v.show(offset, v.listed(timestamp, offset))
				}
			}
			if h.Version >= 4 {
				r.Int32() // leader epoch
			}
			r.Tags()
			if v.Hidden && r.Ok() {
				v.hideError(code)
			}
		}
		r.Tags()
	}
	r.Tags()
	return r.Err()
}

// responseReader begins reading the body of a response to the request h.
func responseReader(frame []byte, h RequestHeader) Reader {
	r := Reader{Buf: frame, At: h.ResponseBody(frame), Flexible: h.Flexible}
	if r.At < 0 {
		r.fail()
	}
	return r
}

// topicByName reads the name of a topic and finds the mirror that it is.
func topicByName(r *Reader, resolver Resolver) Mirror {
	name := r.String()
	if !r.Ok() {
		return nil
	}
	m, _ := resolver.Topic(name, [16]byte{})
	return m
}

func viewOf(m Mirror, partition int32) View {
	if m == nil {
		return View{}
	}
	return m.View(partition)
}

// listed says what an offset in a ListOffsets response is: that of a record, which has its timestamp, or one of both ends.
func (v View) listed(timestamp int64, offset []byte) Position {
	if timestamp >= 0 {
		return AtRecord
	}
	if v.Timeline != nil {
		if end, known := v.Timeline.PhysicalEnd(); known && int64(binary.BigEndian.Uint64(offset)) >= end {
			return AtEnd
		}
	}
	return AtStart
}
