package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ListMirrorsRequest lists mirrors. Needs DESCRIBE on the cluster.
type ListMirrorsRequest struct {
	Version        int16
	Link           *string // nil = of all links
	IncludeStopped bool
}

// ListMirrorsResponse answers ListMirrorsRequest, mirrors in the order of their topics.
type ListMirrorsResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16
	ErrorMessage *string
	Mirrors      []ListedMirror
}

// ListedMirror is one line of ListMirrors.
type ListedMirror struct {
	Link          string
	Topic         string
	SourceTopic   string
	State         string
	Error         string // "" = none
	StateTimeMs   int64  // Unix milliseconds
	NumPartitions int32
	MaxLag        int64 // offsets, over all partitions; -1 = unknown
}

func (r *ListMirrorsRequest) fields(c *codec) {
	c.nullableString(&r.Link)
	c.bool(&r.IncludeStopped)
}

func (r *ListMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Mirrors, 25, (*ListedMirror).fields)
}

func (l *ListedMirror) fields(c *codec) {
	c.string(&l.Link)
	c.string(&l.Topic)
	c.string(&l.SourceTopic)
	c.string(&l.State)
	c.string(&l.Error)
	c.int64(&l.StateTimeMs)
	c.int32(&l.NumPartitions)
	c.int64(&l.MaxLag)
}

// Key implements kmsg.Request.
func (*ListMirrorsRequest) Key() int16 { return KeyListMirrors }

// MaxVersion implements kmsg.Request.
func (*ListMirrorsRequest) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request.
func (r *ListMirrorsRequest) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Request.
func (r *ListMirrorsRequest) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Request: every version is.
func (*ListMirrorsRequest) IsFlexible() bool { return true }

// ResponseKind implements kmsg.Request.
func (r *ListMirrorsRequest) ResponseKind() kmsg.Response {
	return &ListMirrorsResponse{Version: r.Version}
}

// AppendTo implements kmsg.Request.
func (r *ListMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *ListMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyListMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*ListMirrorsResponse) Key() int16 { return KeyListMirrors }

// MaxVersion implements kmsg.Response.
func (*ListMirrorsResponse) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Response.
func (r *ListMirrorsResponse) SetVersion(v int16) { r.Version = v }

// GetVersion implements kmsg.Response.
func (r *ListMirrorsResponse) GetVersion() int16 { return r.Version }

// IsFlexible implements kmsg.Response: every version is.
func (*ListMirrorsResponse) IsFlexible() bool { return true }

// RequestKind implements kmsg.Response.
func (r *ListMirrorsResponse) RequestKind() kmsg.Request {
	return &ListMirrorsRequest{Version: r.Version}
}

// Throttle implements kmsg.ThrottleResponse.
func (r *ListMirrorsResponse) Throttle() (int32, bool) { return r.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (r *ListMirrorsResponse) SetThrottle(ms int32) { r.ThrottleMs = ms }

// AppendTo implements kmsg.Response.
func (r *ListMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *ListMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyListMirrors, "response", r.fields)
}
