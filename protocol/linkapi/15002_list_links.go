package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ListLinksRequest lists all links. Needs DESCRIBE on the cluster.
type ListLinksRequest struct {
	Version int16
}

// ListLinksResponse answers ListLinksRequest, links in the order of their names.
type ListLinksResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16
	ErrorMessage *string
	Links        []ListedLink
}

// ListedLink is one line of ListLinks.
type ListedLink struct {
	Name            string
	ID              string
	State           string
	Error           string // "" = none
	SourceClusterID string
	MirrorCount     int32 // not counting stopped mirrors
}

func (r *ListLinksRequest) fields(c *codec) {
}

func (r *ListLinksResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Links, 9, (*ListedLink).fields)
}

func (l *ListedLink) fields(c *codec) {
	c.string(&l.Name)
	c.string(&l.ID)
	c.string(&l.State)
	c.string(&l.Error)
	c.string(&l.SourceClusterID)
	c.int32(&l.MirrorCount)
}

// Key implements kmsg.Request.
func (*ListLinksRequest) Key() int16 { return KeyListLinks }

// MaxVersion implements kmsg.Request.
func (*ListLinksRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *ListLinksRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *ListLinksRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*ListLinksRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *ListLinksRequest) ResponseKind() kmsg.Response {
	return &ListLinksResponse{Version: r.Version}
}

// AppendTo implements kmsg.Request.
func (r *ListLinksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*ListLinksResponse) Key() int16 { return KeyListLinks }

// MaxVersion implements kmsg.Response.
func (*ListLinksResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *ListLinksResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *ListLinksResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*ListLinksResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *ListLinksResponse) RequestKind() kmsg.Request { return &ListLinksRequest{Version: r.Version} }

// Throttle implements kmsg.ThrottleResponse.
func (r *ListLinksResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *ListLinksResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *ListLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinks, "response", r.fields)
}
