package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// MigrateGroupsRequest copies the committed offsets of groups from the source of a link to its
// mirrors for the last time, and excludes the groups from the link's sync of offsets. Needs ALTER
// on the cluster.
type MigrateGroupsRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Groups       []MigrateGroup
}

// MigrateGroup is one group to move.
type MigrateGroup struct {
	Group string
	Link  string
	Force bool // move the group even while it is active at the source
}

// MigrateGroupsResponse answers MigrateGroupsRequest.
type MigrateGroupsResponse struct {
	ResponseHead
	Results []MigratedGroup
}

// MigratedGroup is the outcome for one group. It may have Partitions beside an error.
type MigratedGroup struct {
	Group        string
	Link         string
	ErrorCode    int16
	ErrorMessage *string
	Partitions   []MigratedPartition
}

// MigratedPartition is a partition of a mirror for which the group has a committed offset at the
// source.
type MigratedPartition struct {
	Topic             string // the mirror
	Partition         int32
	SourceOffset      int64
	DestinationOffset int64 // now; with ValidateOnly as it would be; -1 = none
	// ClampedBy is how far the mirror ends below SourceOffset; -1 = unknown.
	ClampedBy int64
}

func (r *MigrateGroupsRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	structs(c, &r.Groups, 3, (*MigrateGroup).fields)
}

func (m *MigrateGroup) fields(c *codec) {
	c.string(&m.Group)
	c.string(&m.Link)
	c.bool(&m.Force)
}

func (r *MigrateGroupsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 6, (*MigratedGroup).fields)
}

func (m *MigratedGroup) fields(c *codec) {
	c.string(&m.Group)
	c.string(&m.Link)
	c.int16(&m.ErrorCode)
	c.nullableString(&m.ErrorMessage)
	structs(c, &m.Partitions, 29, (*MigratedPartition).fields)
}

func (p *MigratedPartition) fields(c *codec) {
	c.string(&p.Topic)
	c.int32(&p.Partition)
	c.int64(&p.SourceOffset)
	c.int64(&p.DestinationOffset)
	c.int64(&p.ClampedBy)
}

// Key implements kmsg.Request.
func (*MigrateGroupsRequest) Key() int16 { return KeyMigrateGroups }

// ResponseKind implements kmsg.Request.
func (r *MigrateGroupsRequest) ResponseKind() kmsg.Response {
	return &MigrateGroupsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *MigrateGroupsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &MigrateGroupsResponse{ResponseHead: r.response()}
	for _, g := range r.Groups {
		resp.Results = append(resp.Results, MigratedGroup{Group: g.Group, Link: g.Link, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *MigrateGroupsRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *MigrateGroupsRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *MigrateGroupsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *MigrateGroupsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyMigrateGroups, "request", r.fields)
}

// Key implements kmsg.Response.
func (*MigrateGroupsResponse) Key() int16 { return KeyMigrateGroups }

// RequestKind implements kmsg.Response.
func (r *MigrateGroupsResponse) RequestKind() kmsg.Request {
	return &MigrateGroupsRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *MigrateGroupsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *MigrateGroupsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyMigrateGroups, "response", r.fields)
}
