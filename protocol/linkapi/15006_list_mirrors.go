package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ListMirrorsRequest lists mirrors. Needs DESCRIBE on the cluster.
type ListMirrorsRequest struct {
	Head
	Link           *string // nil = of all links
	IncludeStopped bool
}

// ListMirrorsResponse answers ListMirrorsRequest, mirrors in the order of their topics.
type ListMirrorsResponse struct {
	ResponseHead
	ErrorCode    int16
	ErrorMessage *string
	Mirrors      []ListedMirror
}

// ListedMirror is one line of ListMirrors.
type ListedMirror struct {
	Link          string
	Topic         string
	SourceTopic   string
	State         string
	Error         string // "" = none
	StateTimeMs   int64  // Unix milliseconds
	NumPartitions int32
	MaxLag        int64 // offsets, over all partitions; -1 = unknown
}

func (r *ListMirrorsRequest) fields(c *codec) {
	c.nullableString(&r.Link)
	c.bool(&r.IncludeStopped)
}

func (r *ListMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Mirrors, 25, (*ListedMirror).fields)
}

func (l *ListedMirror) fields(c *codec) {
	c.string(&l.Link)
	c.string(&l.Topic)
	c.string(&l.SourceTopic)
	c.string(&l.State)
	c.string(&l.Error)
	c.int64(&l.StateTimeMs)
	c.int32(&l.NumPartitions)
	c.int64(&l.MaxLag)
}

// Key implements kmsg.Request.
func (*ListMirrorsRequest) Key() int16 { return KeyListMirrors }

// ResponseKind implements kmsg.Request.
func (r *ListMirrorsRequest) ResponseKind() kmsg.Response {
	return &ListMirrorsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *ListMirrorsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &ListMirrorsResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	return resp
}

// AppendTo implements kmsg.Request.
func (r *ListMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *ListMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyListMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*ListMirrorsResponse) Key() int16 { return KeyListMirrors }

// RequestKind implements kmsg.Response.
func (r *ListMirrorsResponse) RequestKind() kmsg.Request { return &ListMirrorsRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *ListMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *ListMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyListMirrors, "response", r.fields)
}
