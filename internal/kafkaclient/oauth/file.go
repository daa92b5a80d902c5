package oauth

import (
	"context"
	"strings"
	"time"
)

// FromFile returns the way to get tokens from a file that another program rewrites. read returns
// its content, and an error that may be shown.
func FromFile(read func() ([]byte, error)) Fetch {
	return func(context.Context) (Token, error) {
		text, err := read()
		if err != nil {
			return Token{}, failed("token file: %v", err)
		}
		token, err := parseToken(strings.TrimSpace(string(text)), time.Now(), 0)
		if err != nil {
			return token, refused("token file: the token is of no use: %v", err)
		}
		return token, nil
	}
}
