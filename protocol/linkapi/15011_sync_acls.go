package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// SyncACLsRequest runs the ACL sync of a link once, now, or reports what the sync would do. Needs
// ALTER on the cluster.
type SyncACLsRequest struct {
	Head
	TimeoutMs    int32
	ValidateOnly bool
	Link         string
}

// SyncACLsResponse answers SyncACLsRequest. The arrays are in the order of the ACLs.
type SyncACLsResponse struct {
	ResponseHead
	ErrorCode    int16
	ErrorMessage *string
	Adds         []SyncedACL // absent at the destination
	Deletes      []SyncedACL // klink created them, and the source does not have them any more
	Present      []SyncedACL // at the source and at the destination
}

// SyncedACL is an ACL of the source, or one that came from there. The names are those of Kafka's
// own enumerations, or a number if klink knows no name.
type SyncedACL struct {
	ResourceType   string
	ResourceName   string
	PatternType    string
	Principal      string
	Host           string
	Operation      string
	PermissionType string
	// Managed: klink remembers that it created the ACL, and deletes it when the source does not
	// have it any more.
	Managed bool
	// ErrorCode and ErrorMessage say why klink could not create or delete the ACL.
	ErrorCode    int16
	ErrorMessage *string
}

func (r *SyncACLsRequest) fields(c *codec) {
	c.int32(&r.TimeoutMs)
	c.bool(&r.ValidateOnly)
	c.string(&r.Link)
}

func (r *SyncACLsResponse) fields(c *codec) {
	const least = 7 + 1 + 2 + 1
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Adds, least, (*SyncedACL).fields)
	structs(c, &r.Deletes, least, (*SyncedACL).fields)
	structs(c, &r.Present, least, (*SyncedACL).fields)
}

func (a *SyncedACL) fields(c *codec) {
	c.string(&a.ResourceType)
	c.string(&a.ResourceName)
	c.string(&a.PatternType)
	c.string(&a.Principal)
	c.string(&a.Host)
	c.string(&a.Operation)
	c.string(&a.PermissionType)
	c.bool(&a.Managed)
	c.int16(&a.ErrorCode)
	c.nullableString(&a.ErrorMessage)
}

// Key implements kmsg.Request.
func (*SyncACLsRequest) Key() int16 { return KeySyncACLs }

// ResponseKind implements kmsg.Request.
func (r *SyncACLsRequest) ResponseKind() kmsg.Response {
	return &SyncACLsResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *SyncACLsRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &SyncACLsResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	return resp
}

// Timeout implements kmsg.TimeoutRequest: the client waits that much longer for the response.
func (r *SyncACLsRequest) Timeout() int32 { return r.TimeoutMs }

// SetTimeout implements kmsg.SetTimeoutRequest.
func (r *SyncACLsRequest) SetTimeout(ms int32) { r.TimeoutMs = ms }

// AppendTo implements kmsg.Request.
func (r *SyncACLsRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *SyncACLsRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeySyncACLs, "request", r.fields)
}

// Key implements kmsg.Response.
func (*SyncACLsResponse) Key() int16 { return KeySyncACLs }

// RequestKind implements kmsg.Response.
func (r *SyncACLsResponse) RequestKind() kmsg.Request { return &SyncACLsRequest{Head: r.Head} }

// AppendTo implements kmsg.Response.
func (r *SyncACLsResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *SyncACLsResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeySyncACLs, "response", r.fields)
}
