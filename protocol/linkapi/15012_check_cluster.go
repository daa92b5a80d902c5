package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// CheckClusterRequest asks klink what it needs of the destination, or of the source of a link, and
// whether that is there. klink asks the cluster with its own credentials, or those of the link, and
// changes nothing there. Needs DESCRIBE on the cluster.
type CheckClusterRequest struct {
	Head
	TimeoutMs int32
	Link      *string // nil = the destination
}

// CheckClusterResponse answers CheckClusterRequest.
type CheckClusterResponse struct {
	ResponseHead
	ErrorCode    int16
	ErrorMessage *string
	ClusterID    string
	Needs        []ClusterNeed
}

// The states of a ClusterNeed.
const (
	NeedOK      = "ok"      // it is there
	NeedMissing = "missing" // the cluster does not have it, or not enough of it
	NeedDenied  = "denied"  // klink's user, or the link's, may not use it
	NeedUnknown = "unknown" // the cluster cannot be asked; Detail says why
)

// ClusterNeed is something that klink needs of a cluster.
type ClusterNeed struct {
	Side        string // "destination" or "source"
	Kind        string // "api", "right" or "limit"
	Name        string
	Use         string // what klink needs it for
	Required    bool   // klink cannot mirror without it
	State       string // NeedOK, ...
	Consequence string // what is lost without it
	Detail      string // what klink found; may be empty
}

func (r *CheckClusterRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.nullableString(&r.Link)
}

func (r *CheckClusterResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	c.string(&r.ClusterID)
	structs(c, &r.Needs, 7+1, (*ClusterNeed).fields)
}

func (n *ClusterNeed) fields(c *codec) {
	c.string(&n.Side)
	c.string(&n.Kind)
	c.string(&n.Name)
	c.string(&n.Use)
	c.bool(&n.Required)
	c.string(&n.State)
	c.string(&n.Consequence)
	c.string(&n.Detail)
}

// Key implements kmsg.Request.
func (*CheckClusterRequest) Key() int16 { return KeyCheckCluster }

// ResponseKind implements kmsg.Request.
func (r *CheckClusterRequest) ResponseKind() kmsg.Response {
	return &CheckClusterResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *CheckClusterRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &CheckClusterResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *CheckClusterRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *CheckClusterRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *CheckClusterRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *CheckClusterRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyCheckCluster, "request", r.fields)
}

// Key implements kmsg.Response.
func (*CheckClusterResponse) Key() int16 { return KeyCheckCluster }

// RequestKind implements kmsg.Response.
func (r *CheckClusterResponse) RequestKind() kmsg.Request {
	return &CheckClusterRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *CheckClusterResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *CheckClusterResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyCheckCluster, "response", r.fields)
}
