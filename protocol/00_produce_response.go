package protocol

import "encoding/binary"

// ProduceResponse reads the topics of a Produce response, v0 to v13, in place, and translates the
// offsets in it. Offsets of a hidden partition become -1, which clients also get for a duplicate.
// klink sends no error there, because an error would say that nothing was written.
//
// Version notes: v1 throttle time; v2 log append time; v5 log start offset; v8 record errors and a
// message (KIP-467); v9 flexible; v10 current leader and node endpoints in tags (KIP-951); v13
// topic ids.
type ProduceResponse struct {
	// Name is the current topic; it aliases the frame. It is nil from v13 on, where ID names the
	// topic.
	Name []byte
	ID   [16]byte

	r        Reader
	version  int16
	topicsAt int
	topicAt  int
	left     int
}

// ReadProduceResponse begins reading a response to the request h.
func ReadProduceResponse(frame []byte, h RequestHeader) ProduceResponse {
	p := ProduceResponse{r: Reader{Buf: frame, At: h.ResponseBody(frame), Flexible: h.Flexible}, version: h.Version}
	if p.r.At < 0 {
		p.r.fail()
	}
	p.topicsAt = p.r.At
	p.left = p.r.Array()
	return p
}

// Topic moves to the next topic. If resolver knows the topic as a mirror, Topic translates its
// offsets in place. resolver may be nil.
func (p *ProduceResponse) Topic(resolver Resolver) bool {
	if p.left == 0 || !p.r.Ok() {
		return false
	}
	p.left--
	p.topicAt = p.r.At
	if p.version >= 13 {
		p.ID = p.r.UUID()
	} else {
		p.Name = p.r.String()
	}
	var m Mirror
	if resolver != nil && p.r.Ok() {
		m, _ = resolver.Topic(p.Name, p.ID)
	}
	for n := p.r.Array(); n > 0 && p.r.Ok(); n-- {
		p.partition(m)
	}
	p.r.Tags()
	return p.r.Ok()
}

func (p *ProduceResponse) partition(m Mirror) {
	index := p.r.Int32()
	p.r.Int16() // error code
	base := p.r.Span(8)
	var start []byte
	if p.version >= 2 {
		p.r.Int64() // log append time
	}
	if p.version >= 5 {
		start = p.r.Span(8)
	}
	if p.version >= 8 {
		for n := p.r.Array(); n > 0 && p.r.Ok(); n-- {
			p.r.Int32()
			p.r.String()
			p.r.Tags()
		}
		p.r.String() // error message
	}
	p.r.Tags()
	if m == nil || !p.r.Ok() {
		return
	}
	v := m.View(index)
	v.show(base, AtRecord)
	if start != nil {
		v.show(start, AtStart)
	}
}

// HasEndpoints reports whether the response has tags at its end, which may be node endpoints. The
// caller must have read all topics.
func (p *ProduceResponse) HasEndpoints() bool {
	return p.version >= 10 && p.r.Ok() && p.r.Left() > 5
}

// Err returns the error in the bytes read so far.
func (p *ProduceResponse) Err() error { return p.r.Err() }

// RefusedProduce is a topic that klink has refused.
type RefusedProduce struct {
	Name       []byte // must not alias the frame of the request
	ID         [16]byte
	Partitions []int32
	Code       int16
	Message    string // sent from v8 on, for each partition; "" = none
}

func (t *RefusedProduce) appendMessage(dst []byte, flexible bool) []byte {
	switch {
	case t.Message != "":
		return appendString(dst, flexible, t.Message)
	case flexible:
		return append(dst, 0) // null
	default:
		return append(dst, 0xff, 0xff)
	}
}

// AppendTo appends t as a topic of a Produce response that refuses every partition.
func (t *RefusedProduce) AppendTo(dst []byte, h RequestHeader) []byte {
	if h.Version >= 13 {
		dst = append(dst, t.ID[:]...)
	} else {
		dst = appendString(dst, h.Flexible, t.Name)
	}
	dst = appendCount(dst, h.Flexible, len(t.Partitions))
	for _, index := range t.Partitions {
		dst = appendInt32(dst, index)
		dst = binary.BigEndian.AppendUint16(dst, uint16(t.Code))
		dst = append(dst, unknownOffset...)
		if h.Version >= 2 {
			dst = append(dst, unknownOffset...) // log append time
		}
		if h.Version >= 5 {
			dst = append(dst, unknownOffset...) // log start offset
		}
		if h.Version >= 8 {
			dst = appendCount(dst, h.Flexible, 0) // record errors
			dst = t.appendMessage(dst, h.Flexible)
		}
		dst = appendNoTags(dst, h.Flexible)
	}
	return appendNoTags(dst, h.Flexible)
}

var unknownOffset = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func appendNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}

// AppendRefusedProduce appends a whole response frame that refuses all topics of the request h.
func AppendRefusedProduce(dst []byte, h RequestHeader, refused []*RefusedProduce) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, h.CorrelationID)
	dst = appendNoTags(dst, h.Flexible)
	dst = appendCount(dst, h.Flexible, len(refused))
	for _, t := range refused {
		dst = t.AppendTo(dst, h)
	}
	if h.Version >= 1 {
		dst = appendInt32(dst, 0) // throttle time
	}
	dst = appendNoTags(dst, h.Flexible)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// MergeRefusedProduce inserts refused topics into the response to a request that was forwarded
// without them. refused follows the order of the request: refused[i] is nil if topic i was
// forwarded. The broker's topics keep the broker's order and fill the places of the nil entries.
// Topics beyond the end of refused were forwarded.
func MergeRefusedProduce(frame []byte, h RequestHeader, refused []*RefusedProduce) ([]byte, error) {
	p := ReadProduceResponse(frame, h)
	theirs := p.left
	ours, extra := 0, 0
	for _, t := range refused {
		if t != nil {
			ours++
			extra += len(t.Name) + len(t.Partitions)*(len(t.Message)+40) + 40
		}
	}
	s := newSplice(frame, extra)
	s.keep(p.topicsAt)
	s.dst = appendCount(s.dst, h.Flexible, theirs+ours)
	s.drop(p.r.At)
	for _, t := range refused {
		switch {
		case t != nil:
			s.dst = t.AppendTo(s.dst, h)
		case p.Topic(nil):
			s.keep(p.r.At)
		}
	}
	for p.Topic(nil) {
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	return s.finish(), nil
}

// RewriteProduceEndpoints rewrites the node endpoints of a response (v10 and later). It leaves out
// the endpoint of a broker that has no address at klink, and returns unknown = true: clients then
// ask for Metadata instead.
func RewriteProduceEndpoints(frame []byte, h RequestHeader, brokers Brokers) (_ []byte, unknown bool, err error) {
	if h.Version < 10 {
		return frame, false, nil
	}
	p := ReadProduceResponse(frame, h)
	for p.Topic(nil) {
	}
	p.r.Int32() // throttle time
	if err := p.Err(); err != nil {
		return nil, false, err
	}
	s := newSplice(frame, 64)
	s.keep(p.r.At)
	s.dst, _, unknown = rewriteEndpointTags(s.dst, &p.r, brokers)
	s.drop(p.r.At)
	if err := p.Err(); err != nil {
		return nil, false, err
	}
	return s.finish(), unknown, nil
}
