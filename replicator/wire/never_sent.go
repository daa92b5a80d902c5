package wire

import (
	"errors"
	"net"
)

// NeverSent reports whether a request failed before any of it was sent.
func NeverSent(err error) bool {
	var unsent *UnsentError
	var op *net.OpError
	return errors.As(err, &unsent) || errors.As(err, &op) && op.Op == "dial"
}
