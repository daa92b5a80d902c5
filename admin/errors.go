package admin

import (
	"context"
	"errors"

	"klink/admin/caslog"
	"klink/admin/model"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// asError turns any error into an answer. A protocol.Error stays as it is, a Kafka error keeps its
// code, and every other error gets a code by its kind.
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
	case errors.As(err, new(model.ErrNotPossible)):
		return protocol.Errorf(kerr.InvalidRequest, "%s", err)
	case errors.As(err, &code):
		return protocol.Errorf(code, "%s", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return protocol.Errorf(kerr.RequestTimedOut, "%s", err)
	case errors.Is(err, caslog.ErrClosed):
		return protocol.Errorf(kerr.CoordinatorNotAvailable, "%s", err)
	}
	return protocol.Errorf(kerr.UnknownServerError, "%s", err)
}

// wire returns the error code and message of a response.
func wire(err *protocol.Error) (code int16, message *string) {
	if err == nil {
		return 0, nil
	}
	return err.Code.Code, &err.Message
}
