package replicator

import (
	"errors"
	"fmt"
	"slices"

	"klink/admin"
)

// failure is why a mirror cannot go on faithfully. Its message names topic, partition and offset,
// and what to do.
type failure struct {
	code    admin.Error
	message string
}

func (f *failure) Error() string { return string(f.code) + ": " + f.message }

func failf(code admin.Error, format string, args ...any) *failure {
	return &failure{code: code, message: fmt.Sprintf(format, args...)}
}

// isOneOf reports whether an error is one of these.
func isOneOf(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(target error) bool { return errors.Is(err, target) })
}
