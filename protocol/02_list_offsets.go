package protocol

import "encoding/binary"

// TranslateListOffsets translates the offsets of mirrors in a ListOffsets response, v0 to v11, to
// logical ones, in place.
//
// Version notes: v0 has an array of offsets, later versions have a timestamp and one offset; v2
// throttle time; v4 leader epoch; v6 flexible. Offset -1 (nothing found) stays. The request needs
// no change, because it asks by timestamp.
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
			v := viewOf(m, index).answered(code)
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

// topicByName reads the name of a topic and returns its mirror, or nil if it is none.
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

// listed returns what kind of position an offset in a ListOffsets response is: a record, which
// comes with its timestamp, or the start or end of the log.
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

// FoundOffset is the answer of a ListOffsets response for one partition of a mirror: the offset of
// a record and its timestamp.
type FoundOffset struct {
	Topic     string
	Partition int32
	View      View
	fields    []byte // timestamp and offset, in the frame
}

// Offset returns the offset. It is physical until the response has been translated.
func (f FoundOffset) Offset() int64 { return int64(binary.BigEndian.Uint64(f.fields[8:])) }

// Set replaces the offset. timestamp is that of the record at offset; -1 keeps the timestamp that
// the broker found, unless offset is -1 too (nothing found).
func (f FoundOffset) Set(offset, timestamp int64) {
	binary.BigEndian.PutUint64(f.fields[8:], uint64(offset))
	if timestamp >= 0 || offset < 0 {
		binary.BigEndian.PutUint64(f.fields, uint64(timestamp))
	}
}

// FoundOffsets returns the offsets that a ListOffsets response has found by timestamp in mirrors:
// the answers with a timestamp, from v1 on. Call it before the response is translated. The results
// alias the frame.
func FoundOffsets(frame []byte, h RequestHeader, resolver Resolver) (found []FoundOffset, err error) {
	if h.Version == 0 {
		return nil, nil
	}
	r := responseReader(frame, h)
	if h.Version >= 2 {
		r.Int32() // throttle time
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		name := r.String()
		if !r.Ok() {
			break
		}
		m, _ := resolver.Topic(name, [16]byte{})
		topic := ""
		if m != nil {
			topic = string(name)
		}
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			f := FoundOffset{Partition: r.Int32()}
			code := r.Span(2)
			f.fields = r.Span(16)
			if h.Version >= 4 {
				r.Int32() // leader epoch
			}
			r.Tags()
			if m == nil || !r.Ok() || binary.BigEndian.Uint16(code) != 0 || int64(binary.BigEndian.Uint64(f.fields)) < 0 || f.Offset() < 0 {
				continue
			}
			if f.View = m.View(f.Partition); f.View.Timeline != nil && !f.View.Hidden {
				f.Topic = topic
				found = append(found, f)
			}
		}
		r.Tags()
	}
	r.Tags()
	return found, r.Err()
}
