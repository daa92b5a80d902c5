package kafkaclient

import (
	"fmt"
	"strings"
)

// WithMessage adds the text that came with a Kafka error code, unless it is blank.
func WithMessage(err error, message string) error {
	if err == nil || strings.TrimSpace(message) == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, message)
}
