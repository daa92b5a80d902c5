package protocol

import "encoding/binary"

// ProduceRequest reads the topics of a Produce request, v0 to v13, in place. It does not look at
// records.
//
// Version notes: v3 transactional id; v9 flexible; v13 topic ids instead of names.
type ProduceRequest struct {
	Acks          int16
	TimeoutMillis int32
	// Name is the current topic; it aliases the frame. It is nil from v13 on, where ID names the
	// topic.
	Name []byte
	ID   [16]byte

	r       Reader
	version int16
	// Positions in the frame: topicsAt is the count of topics, firstAt the first topic, topicAt the
	// current one.
	topicsAt, firstAt, topicAt int
	topics                     int // in all
	index                      int // of the current topic
	partsAt                    int // where the partitions of the current topic begin
}

// ReadProduceRequest begins reading.
func ReadProduceRequest(frame []byte, h RequestHeader) ProduceRequest {
	p := ProduceRequest{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version, index: -1}
	if h.Version >= 3 {
		p.r.String() // transactional id
	}
	p.Acks = p.r.Int16()
	p.TimeoutMillis = p.r.Int32()
	p.topicsAt = p.r.At
	p.topics = p.r.Array()
	p.firstAt = p.r.At
	return p
}

// Topic moves to the next topic and reads past all of its partitions.
func (p *ProduceRequest) Topic() bool {
	if p.index+1 >= p.topics || !p.r.Ok() {
		return false
	}
	p.index++
	p.topicAt = p.r.At
	if p.version >= 13 {
		p.ID = p.r.UUID()
	} else {
		p.Name = p.r.Name()
	}
	p.partsAt = p.r.At
	for n := p.r.Array(); n > 0 && p.r.Ok(); n-- {
		p.partition(&p.r)
	}
	p.r.Tags()
	return p.r.Ok()
}

func (p *ProduceRequest) partition(r *Reader) int32 {
	index := r.Int32()
	r.Bytes()
	r.Tags()
	return index
}

// Span returns the part of the frame that the current topic takes.
func (p *ProduceRequest) Span() Span { return Span{p.topicAt, p.r.At} }

// Span is a part of a frame.
type Span struct{ From, To int }

// Index returns the index of the current topic.
func (p *ProduceRequest) Index() int { return p.index }

// Topics returns the number of topics.
func (p *ProduceRequest) Topics() int { return p.topics }

// Partitions returns the partitions of the current topic.
func (p *ProduceRequest) Partitions() []int32 {
	r := p.r
	r.At = p.partsAt
	n := r.Array()
	list := make([]int32, 0, n)
	for ; n > 0 && r.Ok(); n-- {
		list = append(list, p.partition(&r))
	}
	return list
}

// Err returns the error in the bytes read so far. After the last topic it covers the whole request.
func (p *ProduceRequest) Err() error {
	if p.r.Ok() && p.index+1 == p.topics {
		end := p.r
		end.Tags()
		if end.Ok() && end.Left() > 0 {
			end.fail()
		}
		return end.Err()
	}
	return p.r.Err()
}

// Cut removes topics from the request, in place, and returns the shorter frame. topics has their
// spans, in the order of the request. The caller must have read the request to its end without an
// error, and cannot use p afterwards.
func (p *ProduceRequest) Cut(topics []Span) []byte {
	frame := p.r.Buf
	// A smaller count takes no more bytes than the larger one did, so no topic is overwritten
	// before it is moved.
	to := p.topicsAt + copy(frame[p.topicsAt:], appendCount(nil, p.r.Flexible, p.topics-len(topics)))
	from := p.firstAt
	for _, t := range topics {
		to += copy(frame[to:], frame[from:t.From])
		from = t.To
	}
	to += copy(frame[to:], frame[from:])
	binary.BigEndian.PutUint32(frame, uint32(to-4))
	return frame[:to]
}
