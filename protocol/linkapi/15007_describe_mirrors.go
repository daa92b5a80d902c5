package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeMirrorsRequest describes mirrors; nil Topics = all. Needs DESCRIBE on the cluster.
type DescribeMirrorsRequest struct {
	Head
	Topics []string // nullable
}

// DescribeMirrorsResponse answers DescribeMirrorsRequest.
type DescribeMirrorsResponse struct {
	ResponseHead
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
	// DirectAccess: after mirroring has stopped, clients can connect to the brokers directly, and
	// find every record at the same offset as through klink. DirectAccessReason explains why or why
	// not, for people.
	DirectAccess       bool
	DirectAccessReason string
	Partitions         []DescribedPartition
	// ConfigDrift lists the configs of the topic that differ from the source's and do not follow
	// it, in the order of their names, as the task TopicConfigsSync last found them.
	ConfigDrift []ConfigDrift
	// Notices tell people how the topic differs from what klink has made of it, and what to do:
	// somebody changed it around klink, or wrote to it.
	Notices []string
}

// ConfigDrift is a config of a mirror topic that differs from the source's. nil = that cluster has
// no such config, or no value of it.
type ConfigDrift struct {
	Name        string
	SourceValue *string
	MirrorValue *string
}

// DescribedPartition is one partition of a mirror. Offsets are logical; -1 = unknown.
type DescribedPartition struct {
	Partition              int32
	SourceStartOffset      int64
	SourceEndOffset        int64
	SourceLastStableOffset int64 // below SourceEndOffset while a transaction is open at the source
	MirrorStartOffset      int64
	MirrorEndOffset        int64
	// Lag is SourceEndOffset - MirrorEndOffset. For a STOPPED mirror it is the lag when mirroring
	// ended: the number of offsets that were left behind.
	Lag int64
	// LagMs is how long ago, in milliseconds, the mirror last had everything that its source had,
	// as far as the owner has seen; 0 without Lag.
	LagMs int64
	// LastFetchTimeMs is when the source last answered. For a STOPPED mirror it is set only if that
	// was so long before the stop that the source may have had more than SourceEndOffset.
	LastFetchTimeMs int64
	// Aligned: in the whole partition, physical offsets equal logical ones.
	Aligned bool
	// Shift is logical - physical at the end of the log.
	Shift int64
	// ShiftBegan is the first logical offset at which Shift was not 0; -1 = Shift was always 0.
	ShiftBegan  int64
	ShiftReason string // why, for people
	// JoinedBatches is how many batches of the source were appended as a part of another batch,
	// since an instance took the mirror over.
	JoinedBatches int64
}

func (r *DescribeMirrorsRequest) fields(c *codec) {
	c.nullableStrings(&r.Topics)
}

func (r *DescribeMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Mirrors, 22, (*DescribedMirror).fields)
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
	c.bool(&d.DirectAccess)
	c.string(&d.DirectAccessReason)
	structs(c, &d.Partitions, 86, (*DescribedPartition).fields)
	structs(c, &d.ConfigDrift, 3, (*ConfigDrift).fields)
	c.strings(&d.Notices)
}

func (d *ConfigDrift) fields(c *codec) {
	c.string(&d.Name)
	c.nullableString(&d.SourceValue)
	c.nullableString(&d.MirrorValue)
}

func (d *DescribedPartition) fields(c *codec) {
	c.int32(&d.Partition)
	c.int64(&d.SourceStartOffset)
	c.int64(&d.SourceEndOffset)
	c.int64(&d.SourceLastStableOffset)
	c.int64(&d.MirrorStartOffset)
	c.int64(&d.MirrorEndOffset)
	c.int64(&d.Lag)
	c.int64(&d.LagMs)
	c.int64(&d.LastFetchTimeMs)
	c.bool(&d.Aligned)
	c.int64(&d.Shift)
	c.int64(&d.ShiftBegan)
	c.string(&d.ShiftReason)
	c.int64(&d.JoinedBatches)
}

// Key implements kmsg.Request.
func (*DescribeMirrorsRequest) Key() int16 { return KeyDescribeMirrors }

// ResponseKind implements kmsg.Request.
func (r *DescribeMirrorsRequest) ResponseKind() kmsg.Response {
	return &DescribeMirrorsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *DescribeMirrorsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &DescribeMirrorsResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	for _, topic := range r.Topics {
		resp.Mirrors = append(resp.Mirrors, DescribedMirror{Topic: topic, ErrorCode: code, ErrorMessage: message})
	}
	return resp
}

// AppendTo implements kmsg.Request.
func (r *DescribeMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*DescribeMirrorsResponse) Key() int16 { return KeyDescribeMirrors }

// RequestKind implements kmsg.Response.
func (r *DescribeMirrorsResponse) RequestKind() kmsg.Request {
	return &DescribeMirrorsRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *DescribeMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *DescribeMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyDescribeMirrors, "response", r.fields)
}
