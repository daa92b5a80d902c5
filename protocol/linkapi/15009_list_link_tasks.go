package linkapi

import "github.com/twmb/franz-go/pkg/kmsg"

// ListLinkTasksRequest lists the tasks of links: the work that klink does for a link periodically.
// Needs DESCRIBE on the cluster.
type ListLinkTasksRequest struct {
	Head
	Link *string // nil = of all links
}

// ListLinkTasksResponse answers ListLinkTasksRequest, links in the order of their names.
type ListLinkTasksResponse struct {
	ResponseHead
	ErrorCode    int16 // of the whole request
	ErrorMessage *string
	Links        []LinkTasks
}

// LinkTasks are the tasks of one link.
type LinkTasks struct {
	Name         string
	ErrorCode    int16 // RESOURCE_NOT_FOUND for an unknown link
	ErrorMessage *string
	Tasks        []LinkTask
}

// LinkTask is one task of a link. Times are Unix milliseconds; -1 = never since the start of the
// process that answers.
type LinkTask struct {
	Name              string
	State             string
	IntervalMs        int64
	LastRunTimeMs     int64
	LastSuccessTimeMs int64
	Errors            []LinkTaskError // of the last run
}

// LinkTaskError is something that the last run of a task could not do.
type LinkTaskError struct {
	Code    string
	Message string
}

func (r *ListLinkTasksRequest) fields(c *codec) {
	c.nullableString(&r.Link)
}

func (r *ListLinkTasksResponse) fields(c *codec) {
	c.int32(&r.ThrottleMs)
	c.int16(&r.ErrorCode)
	c.nullableString(&r.ErrorMessage)
	structs(c, &r.Links, 5, (*LinkTasks).fields)
}

func (l *LinkTasks) fields(c *codec) {
	c.string(&l.Name)
	c.int16(&l.ErrorCode)
	c.nullableString(&l.ErrorMessage)
	structs(c, &l.Tasks, 27, (*LinkTask).fields)
}

func (t *LinkTask) fields(c *codec) {
	c.string(&t.Name)
	c.string(&t.State)
	c.int64(&t.IntervalMs)
	c.int64(&t.LastRunTimeMs)
	c.int64(&t.LastSuccessTimeMs)
	structs(c, &t.Errors, 2, (*LinkTaskError).fields)
}

func (e *LinkTaskError) fields(c *codec) {
	c.string(&e.Code)
	c.string(&e.Message)
}

// Key implements kmsg.Request.
func (*ListLinkTasksRequest) Key() int16 { return KeyListLinkTasks }

// ResponseKind implements kmsg.Request.
func (r *ListLinkTasksRequest) ResponseKind() kmsg.Response {
	return &ListLinkTasksResponse{ResponseHead: r.response()}
}

// Denied implements Request.
func (r *ListLinkTasksRequest) Denied(code int16, message *string) kmsg.Response {
	resp := &ListLinkTasksResponse{ResponseHead: r.response()}
	resp.ErrorCode, resp.ErrorMessage = code, message
	return resp
}

// AppendTo implements kmsg.Request.
func (r *ListLinkTasksRequest) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Request. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinkTasksRequest) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinkTasks, "request", r.fields)
}

// Key implements kmsg.Response.
func (*ListLinkTasksResponse) Key() int16 { return KeyListLinkTasks }

// RequestKind implements kmsg.Response.
func (r *ListLinkTasksResponse) RequestKind() kmsg.Request {
	return &ListLinkTasksRequest{Head: r.Head}
}

// AppendTo implements kmsg.Response.
func (r *ListLinkTasksResponse) AppendTo(dst []byte) []byte { return appendTo(dst, r.fields) }

// ReadFrom implements kmsg.Response. Errors wrap ErrMalformed; r is then half filled.
func (r *ListLinkTasksResponse) ReadFrom(src []byte) error {
	return readFrom(src, KeyListLinkTasks, "response", r.fields)
}
