package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// CreateLinksRequest creates links. Needs ALTER on the cluster.
type CreateLinksRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	// SkipConnect creates the link without trying to reach its source first.
	SkipConnect bool
	Links       []CreateLink
}

// CreateLink is one link to create.
type CreateLink struct {
	Name    string
	Configs []Config
}

// CreateLinksResponse answers CreateLinksRequest, one result per link in the order of the request.
type CreateLinksResponse struct {
	ResponseHead
	Results []CreateLinkResult
}

// CreateLinkResult is the outcome for one link.
type CreateLinkResult struct {
	Name            string
	ErrorCode       int16
	ErrorMessage    *string
	ID              string // uuid of the new link
	SourceClusterID string
}

func (r *CreateLinksRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	c.bool(&r.SkipConnect)
	structs(c, &r.Links, 2, (*CreateLink).fields)
}

func (e *CreateLink) fields(c *codec) {
	c.string(&e.Name)
	structs(c, &e.Configs, 2, (*Config).fields)
}

func (r *CreateLinksResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 6, (*CreateLinkResult).fields)
}

func (e *CreateLinkResult) fields(c *codec) {
	c.string(&e.Name)
	c.int16(&e.ErrorCode)
	c.nullableString(&e.ErrorMessage)
	c.string(&e.ID)
	c.string(&e.SourceClusterID)
}

// Key implements kmsg.Request.
func (*CreateLinksRequest) Key() int16 { return KeyCreateLinks }

// ResponseKind implements kmsg.Request.
func (r *CreateLinksRequest) ResponseKind() kmsg.Response {
	return &CreateLinksResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *CreateLinksRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &CreateLinksResponse{ResponseHead: r.response()}
	for _, link := range r.Links {
		resp.Results = append(resp.Results, CreateLinkResult{Name: link.Name, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *CreateLinksRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *CreateLinksRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *CreateLinksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *CreateLinksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyCreateLinks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*CreateLinksResponse) Key() int16 { return KeyCreateLinks }

// RequestKind implements kmsg.Response.
func (r *CreateLinksResponse) RequestKind() kmsg.Request { return &CreateLinksRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *CreateLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *CreateLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyCreateLinks, "response", r.fields)
}
