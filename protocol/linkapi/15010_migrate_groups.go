package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// MigrateGroupsRequest copies the committed offsets of groups from the source of a link to its
// mirrors for the last time, and excludes the groups from the link's sync of offsets. Needs ALTER
// on the cluster.
type MigrateGroupsRequest struct {
	Version      int16
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
	Version    int16
	ThrottleMs int32
	Results    []MigratedGroup
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

// MaxVersion implements kmsg.Request.
func (*MigrateGroupsRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *MigrateGroupsRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *MigrateGroupsRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*MigrateGroupsRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *MigrateGroupsRequest) ResponseKind() kmsg.Response {
	return &MigrateGroupsResponse{Version: r.Version}
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

// MaxVersion implements kmsg.Response.
func (*MigrateGroupsResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *MigrateGroupsResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *MigrateGroupsResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*MigrateGroupsResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *MigrateGroupsResponse) RequestKind() kmsg.Request {
	return &MigrateGroupsRequest{Version: r.Version}
}

// Throttle implements kmsg.ThrottleResponse.
func (r *MigrateGroupsResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *MigrateGroupsResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *MigrateGroupsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *MigrateGroupsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyMigrateGroups, "response", r.fields)
}
