package replicator

import (
	"fmt"

	"klink/admin/model"
)

// failure is why a mirror cannot go on faithfully. Its message names topic, partition and offset,
// and what to do.
type failure struct {
	code    model.Error
	message string
}

func (f *failure) Error() string { return string(f.code) + ": " + f.message }

func failf(code model.Error, format string, args ...any) *failure {
	return &failure{code: code, message: fmt.Sprintf(format, args...)}
}
