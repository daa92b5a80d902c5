package model

import "time"

// TaskState is the state of a link's task, as shown to people.
type TaskState string

// The states of tasks.
const (
	// TaskActive: the last run had no error, or there was none yet.
	TaskActive TaskState = "ACTIVE"
	// TaskInError: the last run could not do all of its work; it will be retried.
	TaskInError TaskState = "IN_ERROR"
	// TaskPaused: the link is paused, so its tasks do not run.
	TaskPaused TaskState = "PAUSED"
	// TaskNotConfigured: the link's configs switch the task off, or give it nothing to do.
	TaskNotConfigured TaskState = "NOT_CONFIGURED"
)

// TaskError is one thing that a run of a task could not do.
type TaskError struct {
	Code    Error
	Message string
}

// TaskStatus is the outcome of a link's task so far.
type TaskStatus struct {
	Name        string
	State       TaskState
	Interval    time.Duration
	Errors      []TaskError // of the last run
	LastRun     time.Time   // when the last run ended; zero = never
	LastSuccess time.Time   // when the last run without an error ended; zero = never
}
