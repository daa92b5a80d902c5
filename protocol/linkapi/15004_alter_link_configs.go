package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ConfigOp says what to do with a config.
const (
	ConfigSet    int8 = 0
	ConfigDelete int8 = 1
)

// AlterLinkConfigsRequest changes configs of links, each link all or nothing. Needs ALTER on the
// cluster.
type AlterLinkConfigsRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Links        []AlterLink
}

// AlterLink names the changes to one link.
type AlterLink struct {
	Name    string
	Configs []AlterConfig
}

// AlterConfig is one change.
type AlterConfig struct {
	Name  string
	Op    int8
	Value *string
}

// AlterLinkConfigsResponse answers AlterLinkConfigsRequest.
type AlterLinkConfigsResponse struct {
	ResponseHead
	Results []NameResult
}

func (r *AlterLinkConfigsRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	structs(c, &r.Links, 2, (*AlterLink).fields)
}

func (a *AlterLink) fields(c *codec) {
	c.string(&a.Name)
	structs(c, &a.Configs, 3, (*AlterConfig).fields)
}

func (a *AlterConfig) fields(c *codec) {
	c.string(&a.Name)
	c.int8(&a.Op)
	c.nullableString(&a.Value)
}

func (r *AlterLinkConfigsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 4, (*NameResult).fields)
}

// Key implements kmsg.Request.
func (*AlterLinkConfigsRequest) Key() int16 { return KeyAlterLinkConfigs }

// ResponseKind implements kmsg.Request.
func (r *AlterLinkConfigsRequest) ResponseKind() kmsg.Response {
	return &AlterLinkConfigsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *AlterLinkConfigsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &AlterLinkConfigsResponse{ResponseHead: r.response()}
	for _, link := range r.Links {
		resp.Results = append(resp.Results, NameResult{Name: link.Name, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *AlterLinkConfigsRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *AlterLinkConfigsRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *AlterLinkConfigsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *AlterLinkConfigsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyAlterLinkConfigs, "request", r.fields)
}

// Key implements kmsg.Response.
func (*AlterLinkConfigsResponse) Key() int16 { return KeyAlterLinkConfigs }

// RequestKind implements kmsg.Response.
func (r *AlterLinkConfigsResponse) RequestKind() kmsg.Request {
	return &AlterLinkConfigsRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *AlterLinkConfigsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *AlterLinkConfigsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyAlterLinkConfigs, "response", r.fields)
}
