package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeMirrorsRequest describes mirrors; nil Topics = all. Needs DESCRIBE on the cluster.
type DescribeMirrorsRequest struct {
	Version int16
	Topics  []string // nullable
}

// DescribeMirrorsResponse answers DescribeMirrorsRequest.
type DescribeMirrorsResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16 // of the whole request
	ErrorMessage *string
	Mirrors      []DescribedMirror
}

// DescribedMirror is one mirror.
type DescribedMirror struct {
	Topic        string
	ErrorCode    int16
	ErrorMessage *string
	Link         string
	SourceTopic  string
	State        string
	Error        string // why State is FAILED, SOURCE_UNAVAILABLE, ..., "" = none
	StateMessage string
	StateTimeMs  int64
	Partitions   []DescribedPartition
}

// DescribedPartition is one partition of a mirror. Offsets are logical; -1 = unknown.
type DescribedPartition struct {
	Partition       int32
	SourceEndOffset int64
	MirrorEndOffset int64
	Lag             int64
	LastFetchTimeMs int64
	// Shift is logical - physical at the end of the log; 0 = aligned.
	Shift int64
}

func (r *DescribeMirrorsRequest) fields(c *codec) {
	c.nullableStrings(&r.Topics)
}

func (r *DescribeMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Mirrors, 18, (*DescribedMirror).fields)
}

func (d *DescribedMirror) fields(c *codec) {
	c.string(&d.Topic)
	c.int16(&d.ErrorCode)
	c.nullableString(&d.ErrorMessage)
	c.string(&d.Link)
	c.string(&d.SourceTopic)
	c.string(&d.State)
	c.string(&d.Error)
	c.string(&d.StateMessage)
	c.int64(&d.StateTimeMs)
	structs(c, &d.Partitions, 44, (*DescribedPartition).fields)
}

func (d *DescribedPartition) fields(c *codec) {
	c.int32(&d.Partition)
	c.int64(&d.SourceEndOffset)
	c.int64(&d.MirrorEndOffset)
	c.int64(&d.Lag)
	c.int64(&d.LastFetchTimeMs)
	c.int64(&d.Shift)
}

// Key implements kmsg.Request.
func (*DescribeMirrorsRequest) Key() int16 { return KeyDescribeMirrors }

// MaxVersion implements kmsg.Request.
func (*DescribeMirrorsRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *DescribeMirrorsRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *DescribeMirrorsRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*DescribeMirrorsRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *DescribeMirrorsRequest) ResponseKind() kmsg.Response {
	return &DescribeMirrorsResponse{Version: r.Version}
}

// AppendTo implements kmsg.Request.
func (r *DescribeMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*DescribeMirrorsResponse) Key() int16 { return KeyDescribeMirrors }

// MaxVersion implements kmsg.Response.
func (*DescribeMirrorsResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *DescribeMirrorsResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *DescribeMirrorsResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*DescribeMirrorsResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *DescribeMirrorsResponse) RequestKind() kmsg.Request {
	return &DescribeMirrorsRequest{Version: r.Version}
}

// Throttle implements kmsg.ThrottleResponse.
func (r *DescribeMirrorsResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *DescribeMirrorsResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *DescribeMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeMirrors, "response", r.fields)
}
