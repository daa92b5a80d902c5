package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeLinksRequest describes links; nil Names = all. Needs DESCRIBE on the cluster.
type DescribeLinksRequest struct {
	Head
	Names []string // nullable
}

// DescribeLinksResponse answers DescribeLinksRequest.
type DescribeLinksResponse struct {
	ResponseHead
	ErrorCode    int16 // of the whole request
	ErrorMessage *string
	Links        []DescribedLink
}

// DescribedLink is one link. Sensitive values are shown as [hidden].
type DescribedLink struct {
	Name                 string
	ErrorCode            int16 // RESOURCE_NOT_FOUND for an unknown link
	ErrorMessage         *string
	ID                   string
	State                string
	Error                string // why State is not ACTIVE, "" = none
	StateMessage         string
	SourceClusterID      string
	DestinationClusterID string
	Configs              []DescribedConfig
}

// DescribedConfig is one configuration entry of a link.
type DescribedConfig struct {
	Name      string
	Value     *string
	IsDefault bool
	Sensitive bool
}

func (r *DescribeLinksRequest) fields(c *codec) {
	c.nullableStrings(&r.Names)
}

func (r *DescribeLinksResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Links, 11, (*DescribedLink).fields)
}

func (d *DescribedLink) fields(c *codec) {
	c.string(&d.Name)
	c.int16(&d.ErrorCode)
	c.nullableString(&d.ErrorMessage)
	c.string(&d.ID)
	c.string(&d.State)
	c.string(&d.Error)
	c.string(&d.StateMessage)
	c.string(&d.SourceClusterID)
	c.string(&d.DestinationClusterID)
	structs(c, &d.Configs, 4, (*DescribedConfig).fields)
}

func (d *DescribedConfig) fields(c *codec) {
	c.string(&d.Name)
	c.nullableString(&d.Value)
	c.bool(&d.IsDefault)
	c.bool(&d.Sensitive)
}

// Key implements kmsg.Request.
func (*DescribeLinksRequest) Key() int16 { return KeyDescribeLinks }

// ResponseKind implements kmsg.Request.
func (r *DescribeLinksRequest) ResponseKind() kmsg.Response {
	return &DescribeLinksResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *DescribeLinksRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &DescribeLinksResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	for _, name := range r.Names {
		resp.Links = append(resp.Links, DescribedLink{Name: name, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// AppendTo implements kmsg.Request.
func (r *DescribeLinksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeLinksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeLinks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*DescribeLinksResponse) Key() int16 { return KeyDescribeLinks }

// RequestKind implements kmsg.Response.
func (r *DescribeLinksResponse) RequestKind() kmsg.Request {
	return &DescribeLinksRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *DescribeLinksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeLinksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeLinks, "response", r.fields)
}
