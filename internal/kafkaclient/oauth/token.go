package oauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// maxToken bounds a token in bytes. Brokers take no login above sasl.server.max.receive.size, 512
// KiB by default.
const maxToken = 256 << 10

// Token is an access token.
type Token struct {
	Value string
	// Issued is when its life began.
	Issued time.Time
	// Expires is when it ends.
	Expires time.Time
}

// Error says why there is no token. It is text only: what a token endpoint does to a connection
// must not be taken for something that a broker did.
type Error struct {
	text string
	// refused: it is of no use to try the same again soon.
	refused bool
}

func (e *Error) Error() string { return e.text }

func failed(format string, args ...any) *Error { return &Error{text: fmt.Sprintf(format, args...)} }

func refused(format string, args ...any) *Error {
	return &Error{text: fmt.Sprintf(format, args...), refused: true}
}

// claims are the parts of a JSON Web Token that say how long it lives, in seconds since 1970.
type claims struct {
	Expires *float64 `json:"exp"`
	Issued  *float64 `json:"iat"`
}

// parseToken reads the times in a token that was received now. lifetime is what the issuer says
// beside the token, 0 = nothing; it counts if the token itself cannot be read.
func parseToken(value string, now time.Time, lifetime time.Duration) (Token, error) {
	t := Token{Value: value, Issued: now}
	switch {
	case value == "":
		return t, errors.New("it is empty")
	case len(value) > maxToken:
		return t, fmt.Errorf("it has %d bytes; at most %d are allowed", len(value), maxToken)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return t, errors.New("it has characters that no token has")
	}
	c, err := parseClaims(value)
	switch {
	case err == nil && c.Expires != nil:
		t.Expires = seconds(*c.Expires)
		if c.Issued != nil && seconds(*c.Issued).Before(now) {
			t.Issued = seconds(*c.Issued)
		}
	case lifetime > 0:
		t.Expires = now.Add(lifetime)
	case err != nil:
		return t, fmt.Errorf("it is no JSON Web Token (%w), and nothing says when it expires", err)
	default:
		return t, errors.New("its claim exp is missing, and nothing says when it expires")
	}
	if !now.Before(t.Expires) {
		return t, fmt.Errorf("it expired at %s, and it is %s now: check the clocks", t.Expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// parseClaims reads the second part of a JSON Web Token. It does not check the signature: that is
// the broker's business.
func parseClaims(value string) (c claims, err error) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return c, errors.New("it has not three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return c, errors.New("its second part is not Base64")
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, errors.New("its second part is not JSON with times in it")
	}
	return c, nil
}

// seconds returns a time in seconds since 1970, within a range that the time package can add to.
func seconds(s float64) time.Time {
	const most = 1 << 33 // the year 2242
	if math.IsNaN(s) || s < 0 {
		s = 0
	}
	return time.UnixMilli(int64(min(s, most) * 1000))
}
