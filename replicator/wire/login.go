package wire

import (
	"context"
	"errors"
	"fmt"

	"klink/internal/sasllogin"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// login authenticates, or authenticates again (KIP-368), if the client has SASL mechanisms.
func (c *Conn) login(ctx context.Context) error {
	if len(c.d.mechanisms) == 0 {
		return nil
	}
	if c.versions.handshake.max < 1 || c.versions.authenticate.max < 0 {
		return fmt.Errorf("%w: %s does not support SaslAuthenticate (KIP-152)", kerr.UnsupportedVersion, c.addr)
	}
	l := sasllogin.New(c.d.mechanisms, c.addr, min(c.versions.authenticate.max, 2))
	for req := l.First(); req != nil; {
		body, err := c.control(req)
		if err != nil {
			return err
		}
		if req, err = l.Next(ctx, body); errors.Is(err, protocol.ErrMalformed) {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		} else if err != nil {
			return err
		}
	}
	c.expiry = l.Renewal()
	return nil
}
