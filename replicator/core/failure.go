package core

import (
	"fmt"

	"klink/admin/model"
)

// Failure is why a mirror cannot go on faithfully. Its message names topic, partition and offset,
// and what to do.
type Failure struct {
	Code    model.Error
	Message string
}

// Error begins with the code.
func (f *Failure) Error() string { return string(f.Code) + ": " + f.Message }

// Failf formats a Failure.
func Failf(code model.Error, format string, args ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}
