package protocol

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is a Kafka error code, and the message that the client gets with it.
type Error struct {
	Code    *kerr.Error
	Message string
}

// Errorf returns an Error. The message says what happened, to which topic, partition or link, and
// what to do.
func Errorf(code *kerr.Error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Code.Message + ": " + e.Message }

// Unwrap lets errors.Is find the Kafka code.
func (e *Error) Unwrap() error { return e.Code }
