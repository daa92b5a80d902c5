package kafkaclient

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// NotOffered names the API in the error of a request that was not sent because the brokers do not
// offer it, or no version of it that klink knows: franz-go's text does not. The error is then
// UNSUPPORTED_VERSION. Every other error, and nil, stays as it is.
func NotOffered(err error, key kmsg.Key) error {
	if !IsNotOffered(err) || errors.Is(err, kerr.UnsupportedVersion) {
		return err
	}
	return fmt.Errorf("%w: the brokers do not offer %s", kerr.UnsupportedVersion, key.Name())
}

// IsNotOffered reports whether a request was not sent because the brokers do not offer it. franz-go
// does not export these errors.
func IsNotOffered(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "request key is unknown") || strings.Contains(err.Error(), "broker is too old"))
}
