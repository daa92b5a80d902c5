package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ListLinksRequest lists all links. Needs DESCRIBE on the cluster.
type ListLinksRequest struct {
	Head
}

// ListLinksResponse answers ListLinksRequest, links in the order of their names.
type ListLinksResponse struct {
	ResponseHead
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

// ResponseKind implements kmsg.Request.
func (r *ListLinksRequest) ResponseKind() kmsg.Response {
	return &ListLinksResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *ListLinksRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &ListLinksResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	return resp
}

// AppendTo implements kmsg.Request.
func (r *ListLinksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*ListLinksResponse) Key() int16 { return KeyListLinks }

// RequestKind implements kmsg.Response.
func (r *ListLinksResponse) RequestKind() kmsg.Request { return &ListLinksRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *ListLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinks, "response", r.fields)
}
