package admin

import (
	"context"
	"errors"
	"strings"

	"klink/admin/model"
	"klink/admin/sources"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxTaskErrors bounds the errors that are kept of a run. If there were more, one last error says
// how many.
const maxTaskErrors = 20

// task is periodic work for a link. Implementations hold no state of a link: what must survive a
// run is in the state topic, and what may be lost is in taskRun.memory.
type task struct {
	// name is shown to people.
	name string
	// interval names the link config that holds the interval between runs, in milliseconds.
	interval string
	// configured reports whether the link's configs ask for the task. nil = always.
	configured func(*model.Link) bool
	// begin is called before the first run with new configs of a link, even if they switch the task
	// off. The task does not run until begin has succeeded. nil = nothing to do.
	begin func(s *Service, ctx context.Context, l *model.Link) error
	// run does the work once. It does all that it can; the errors say what it could not do. It must
	// return soon after ctx ends.
	run func(ctx context.Context, s *Service, r *taskRun) []model.TaskError
}

// taskRun is the input of one run of a task.
type taskRun struct {
	link   *model.Link
	source *sources.Source
	// memory is what the task kept from earlier runs in this process, nil at first. It is lost when
	// the process ends and when the link changes its source.
	memory any
}

// tasks are the tasks of every link, in display order.
var tasks = []*task{
	topicConfigTask,
	consumerOffsetTask,
	autoCreateTask,
	aclTask,
}

// taskError turns any error into a TaskError.
func taskError(err error) model.TaskError {
	var (
		known *protocol.Error
		code  *kerr.Error
	)
	name, message := model.ErrInternal, err.Error()
	switch {
	case errors.As(err, &known) && known != nil && known.Code == kerr.InvalidConfig:
		// source.failed returns InvalidConfig for a failed login. So do key and certificate files
		// that cannot be used.
		name = model.ErrAuthentication
	case errors.As(err, &code):
		name = errorOfCode(code)
	}
	if known != nil && message == known.Error() {
		message = known.Message
	}
	if name == model.ErrInternal {
		name, _ = sources.Classify(err)
	}
	return model.TaskError{Code: name, Message: strings.TrimPrefix(message, string(name)+": ")}
}

// errorOfCode maps a Kafka error code to a kind of Error.
func errorOfCode(code *kerr.Error) model.Error {
	switch code {
	case kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed:
		return model.ErrAuthorization
	case kerr.SaslAuthenticationFailed:
		return model.ErrAuthentication
	case kerr.RequestTimedOut:
		return model.ErrTimeout
	case kerr.BrokerNotAvailable:
		return model.ErrBootstrapConnection
	case kerr.PolicyViolation, kerr.InvalidConfig:
		return model.ErrPolicyViolation
	case kerr.SecurityDisabled:
		return model.ErrSecurityDisabled
	case kerr.UnsupportedVersion:
		return model.ErrUnsupportedVersion
	}
	return model.ErrInternal
}
