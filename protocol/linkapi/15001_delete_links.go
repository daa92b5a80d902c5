package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// DeleteLinksRequest deletes links. A link with mirrors that are not stopped is refused unless
// Force is set, which stops them first. Needs ALTER on the cluster.
type DeleteLinksRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	Force        bool
	Names        []string
}

// DeleteLinksResponse answers DeleteLinksRequest.
type DeleteLinksResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []NameResult
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

// MaxVersion implements kmsg.Request.
func (*DeleteLinksRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *DeleteLinksRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *DeleteLinksRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*DeleteLinksRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *DeleteLinksRequest) ResponseKind() kmsg.Response {
	return &DeleteLinksResponse{Version: r.Version}
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

// MaxVersion implements kmsg.Response.
func (*DeleteLinksResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *DeleteLinksResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *DeleteLinksResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*DeleteLinksResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *DeleteLinksResponse) RequestKind() kmsg.Request {
	return &DeleteLinksRequest{Version: r.Version}
}

// Throttle implements kmsg.ThrottleResponse.
func (r *DeleteLinksResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *DeleteLinksResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *DeleteLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *DeleteLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyDeleteLinks, "response", r.fields)
}
