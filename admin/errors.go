package admin

import (
	"context"
	"errors"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// asError makes an answer of any error: a protocol.Error as it is, a Kafka error with its own code,
// the rest by its kind.
func asError(err error) *protocol.Error {
	if err == nil {
		return nil
	}
	var (
		known *protocol.Error
		code  *kerr.Error
	)
	switch {
	case errors.As(err, &known):
		if known == nil {
			return nil
		}
		return known
	case errors.As(err, new(errNotPossible)):
		return protocol.Errorf(kerr.InvalidRequest, "%s", err)
	case errors.As(err, &code):
		return protocol.Errorf(code, "%s", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return protocol.Errorf(kerr.RequestTimedOut, "%s", err)
	case errors.Is(err, errClosed):
		return protocol.Errorf(kerr.CoordinatorNotAvailable, "%s", err)
	}
	return protocol.Errorf(kerr.UnknownServerError, "%s", err)
}

// wire is an error as it stands in a response.
func wire(err *protocol.Error) (code int16, message *string) {
	if err == nil {
		return 0, nil
	}
	return err.Code.Code, &err.Message
}
