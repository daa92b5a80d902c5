package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TaskState is the state of a task of a link, as shown to people.
type TaskState string

// The states of tasks.
const (
	// TaskActive: the last run had no error, or there was none yet.
	TaskActive TaskState = "ACTIVE"
	// TaskInError: the last run could not do all that it should have; it is run again.
	TaskInError TaskState = "IN_ERROR"
	// TaskPaused: the link is paused, so the task is not run.
	TaskPaused TaskState = "PAUSED"
	// TaskNotConfigured: the link's configs switch the task off, or give it nothing to do.
	TaskNotConfigured TaskState = "NOT_CONFIGURED"
)

// TaskError is something that a run of a task could not do.
type TaskError struct {
	Code    Error
	Message string
}

// maxTaskErrors bounds how many errors of a run are kept; the last one then says how many more
// there were.
const maxTaskErrors = 20

// TaskStatus is what is known of a task of a link.
type TaskStatus struct {
	Name        string
	State       TaskState
	Interval    time.Duration
	Errors      []TaskError // of the last run
	LastRun     time.Time   // when it ended; zero = never
	LastSuccess time.Time   // when the last run without an error ended; zero = never
}

// task is work that is done for a link from time to time. Implementations hold no state of a link:
// what has to survive a run is in the state topic, and what may be lost is in taskMemory.
type task struct {
	// Name is shown to people.
	name string
	// interval is the link config that says how often it runs, in milliseconds.
	interval string
	// configured says whether the link wants it. nil = always.
	configured func(*Link) bool
	// begin is called before the first run with these configs of a link, also where they do not
	// want the task; nothing runs before it has succeeded. nil = nothing to do.
	begin func(s *Service, ctx context.Context, l *Link) error
	// run does the work once. The errors say what could not be done; the rest was. It must return
	// soon after ctx has ended.
	run func(ctx context.Context, s *Service, r *taskRun) []TaskError
}

// taskRun is what one run of a task works with.
type taskRun struct {
	link   *Link
	source *source
	// memory is what the task kept of earlier runs in this process, nil at first; it is lost with
	// the process and when the link changes its source.
	memory any
}

// tasks are the tasks of every link, in the order in which they are shown.
var tasks = []*task{
	topicConfigTask,
	consumerOffsetTask,
	autoCreateTask,
	aclTask,
}

// taskError makes an error of a task out of any error.
func taskError(err error) TaskError {
	var (
		known *protocol.Error
		code  *kerr.Error
	)
	name, message := ErrInternal, err.Error()
	switch {
	case errors.As(err, &known) && known != nil && known.Code == kerr.InvalidConfig:
		// What source.failed makes of a login that fails, and what files of keys and certificates
		// give that cannot be used.
		name = ErrAuthentication
	case errors.As(err, &code):
		name = errorOfCode(code)
	}
	if known != nil && message == known.Error() {
		message = known.Message
	}
	if name == ErrInternal {
		name, _ = ClassifySourceError(err)
	}
	return TaskError{name, strings.TrimPrefix(message, string(name)+": ")}
}

// errorOfCode names the kind of a Kafka error code.
func errorOfCode(code *kerr.Error) Error {
	switch code {
	case kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed:
		return ErrAuthorization
	case kerr.SaslAuthenticationFailed:
		return ErrAuthentication
	case kerr.RequestTimedOut:
		return ErrTimeout
	case kerr.BrokerNotAvailable:
		return ErrBootstrapConnection
	case kerr.PolicyViolation, kerr.InvalidConfig:
		return ErrPolicyViolation
	case kerr.SecurityDisabled:
		return ErrSecurityDisabled
	}
	return ErrInternal
}
