package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// CreateMirrorsRequest creates mirror topics. Needs ALTER on the cluster.
type CreateMirrorsRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Mirrors      []CreateMirror
}

// CreateMirror is one mirror to create.
type CreateMirror struct {
	Topic             string
	Link              string
	SourceTopic       string // "" = as Topic
	NumPartitions     int32  // -1 = as at the source; another number than the source's is refused
	ReplicationFactor int16  // -1 = the destination's default
	Configs           []Config
}

// CreateMirrorsResponse answers CreateMirrorsRequest.
type CreateMirrorsResponse struct {
	ResponseHead
	Results []NameResult
}

func (r *CreateMirrorsRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	structs(c, &r.Mirrors, 10, (*CreateMirror).fields)
}

func (e *CreateMirror) fields(c *codec) {
	c.string(&e.Topic)
	c.string(&e.Link)
	c.string(&e.SourceTopic)
	c.int32(&e.NumPartitions)
	c.int16(&e.ReplicationFactor)
	structs(c, &e.Configs, 2, (*Config).fields)
}

func (r *CreateMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 4, (*NameResult).fields)
}

// Key implements kmsg.Request.
func (*CreateMirrorsRequest) Key() int16 { return KeyCreateMirrors }

// ResponseKind implements kmsg.Request.
func (r *CreateMirrorsRequest) ResponseKind() kmsg.Response {
	return &CreateMirrorsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *CreateMirrorsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &CreateMirrorsResponse{ResponseHead: r.response()}
	for _, m := range r.Mirrors {
		resp.Results = append(resp.Results, NameResult{Name: m.Topic, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *CreateMirrorsRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *CreateMirrorsRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *CreateMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *CreateMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyCreateMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*CreateMirrorsResponse) Key() int16 { return KeyCreateMirrors }

// RequestKind implements kmsg.Response.
func (r *CreateMirrorsResponse) RequestKind() kmsg.Request {
	return &CreateMirrorsRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *CreateMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *CreateMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyCreateMirrors, "response", r.fields)
}
