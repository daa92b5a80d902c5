package replicator

import (
	"errors"
	"slices"
)

// isOneOf reports whether an error is one of these.
func isOneOf(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(target error) bool { return errors.Is(err, target) })
}
