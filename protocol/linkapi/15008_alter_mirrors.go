package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// What AlterMirrors can do.
const (
	MirrorPause    int8 = 0
	MirrorResume   int8 = 1
	MirrorPromote  int8 = 2
	MirrorFailover int8 = 3
)

// AlterMirrorsRequest pauses, resumes, promotes or fails over mirrors. With ValidateOnly it changes
// nothing; for mirrors that could be promoted klink then checks the consumer groups. Needs ALTER on
// the cluster.
type AlterMirrorsRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Mirrors      []AlterMirror
}

// AlterMirror is one change of a mirror.
type AlterMirror struct {
	Topic string
	Op    int8
}

// AlterMirrorsResponse answers AlterMirrorsRequest.
type AlterMirrorsResponse struct {
	ResponseHead
	Results []AlteredMirror
}

// AlteredMirror is the outcome for one mirror. If the request asked only whether the mirror could
// be promoted (ValidateOnly), it also says how far consumer groups are from being able to go on at
// the destination. Otherwise GroupsSynced is false, GroupsBehind -1 and GroupsMessage nil.
type AlteredMirror struct {
	Name         string
	ErrorCode    int16
	ErrorMessage *string
	// GroupsSynced: the promotion would carry over the committed offsets of the groups that the
	// link's filters name.
	GroupsSynced bool
	// GroupsBehind is how many of these groups have an offset for the mirror at the source that the
	// destination does not have yet; -1 = unknown.
	GroupsBehind int32
	// GroupsMessage tells people why GroupsBehind is unknown, or which groups will not get their
	// offsets; nil = nothing to say.
	GroupsMessage *string
}

func (r *AlterMirrorsRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	structs(c, &r.Mirrors, 2, (*AlterMirror).fields)
}

func (a *AlterMirror) fields(c *codec) {
	c.string(&a.Topic)
	c.int8(&a.Op)
}

func (r *AlterMirrorsResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	structs(c, &r.Results, 10, (*AlteredMirror).fields)
}

func (a *AlteredMirror) fields(c *codec) {
	c.string(&a.Name)
	c.int16(&a.ErrorCode)
	c.nullableString(&a.ErrorMessage)
	c.bool(&a.GroupsSynced)
	c.int32(&a.GroupsBehind)
	c.nullableString(&a.GroupsMessage)
}

// Key implements kmsg.Request.
func (*AlterMirrorsRequest) Key() int16 { return KeyAlterMirrors }

// ResponseKind implements kmsg.Request.
func (r *AlterMirrorsRequest) ResponseKind() kmsg.Response {
	return &AlterMirrorsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *AlterMirrorsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &AlterMirrorsResponse{ResponseHead: r.response()}
	for _, m := range r.Mirrors {
		resp.Results = append(resp.Results, AlteredMirror{Name: m.Topic, ErrorCode: code, ErrorMessage: message, GroupsBehind: -1})
	}
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *AlterMirrorsRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *AlterMirrorsRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *AlterMirrorsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *AlterMirrorsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyAlterMirrors, "request", r.fields)
}

// Key implements kmsg.Response.
func (*AlterMirrorsResponse) Key() int16 { return KeyAlterMirrors }

// RequestKind implements kmsg.Response.
func (r *AlterMirrorsResponse) RequestKind() kmsg.Request { return &AlterMirrorsRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *AlterMirrorsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *AlterMirrorsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyAlterMirrors, "response", r.fields)
}
