package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// DeleteLinksRequest deletes links. A link with mirrors that are not stopped is refused unless
// Force is set, which stops them first. Needs ALTER on the cluster.
type DeleteLinksRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Force        bool
	Names        []string
}

// DeleteLinksResponse answers DeleteLinksRequest.
type DeleteLinksResponse struct {
	ResponseHead
	Results []NameResult
}

func (r *DeleteLinksRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	c.bool(&r.Force)
	c.strings(&r.Names)
}

func (r *DeleteLinksResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 4, (*NameResult).fields)
}

// Key implements kmsg.Request.
func (*DeleteLinksRequest) Key() int16 { return KeyDeleteLinks }

// ResponseKind implements kmsg.Request.
func (r *DeleteLinksRequest) ResponseKind() kmsg.Response {
	return &DeleteLinksResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *DeleteLinksRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &DeleteLinksResponse{ResponseHead: r.response()}
	for _, name := range r.Names {
		resp.Results = append(resp.Results, NameResult{Name: name, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *DeleteLinksRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *DeleteLinksRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *DeleteLinksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *DeleteLinksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyDeleteLinks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*DeleteLinksResponse) Key() int16 { return KeyDeleteLinks }

// RequestKind implements kmsg.Response.
func (r *DeleteLinksResponse) RequestKind() kmsg.Request { return &DeleteLinksRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *DeleteLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *DeleteLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyDeleteLinks, "response", r.fields)
}
