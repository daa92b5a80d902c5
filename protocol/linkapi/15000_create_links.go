package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// CreateLinksRequest creates links. Needs ALTER on the cluster.
type CreateLinksRequest struct {
	Version      int16
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
	Version    int16
	ThrottleMs int32
	Results    []CreateLinkResult
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

// MaxVersion implements kmsg.Request.
func (*CreateLinksRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *CreateLinksRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *CreateLinksRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*CreateLinksRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *CreateLinksRequest) ResponseKind() kmsg.Response {
	return &CreateLinksResponse{Version: r.Version}
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

// MaxVersion implements kmsg.Response.
func (*CreateLinksResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *CreateLinksResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *CreateLinksResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*CreateLinksResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *CreateLinksResponse) RequestKind() kmsg.Request {
	return &CreateLinksRequest{Version: r.Version}
}

// Throttle implements kmsg.ThrottleResponse.
func (r *CreateLinksResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *CreateLinksResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *CreateLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *CreateLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyCreateLinks, "response", r.fields)
}
