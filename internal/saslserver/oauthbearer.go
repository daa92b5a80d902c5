package saslserver

import (
	"bytes"
	"context"
	"strings"
)

// bearerExchange is OAUTHBEARER (RFC 7628), as brokers do it.
type bearerExchange struct {
	tokens *Tokens
	failed *Failure // the client has been told so in the form of RFC 7628, and has to confirm it
}

// refusedToken is how RFC 7628 says that a token is refused.
const refusedToken = `{"status":"invalid_token"}`

// Step implements Exchange.
func (e *bearerExchange) Step(ctx context.Context, message []byte) ([]byte, *Client, error) {
	if e.failed != nil {
		return nil, nil, e.failed
	}
	id, token, ok := readBearer(message)
	if !ok {
		return nil, nil, malformed(OAuthBearer)
	}
	client, err := e.tokens.Verify(ctx, token)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		e.failed = wrong(OAuthBearer, err.Error())
		return []byte(refusedToken), nil, nil
	}
	if id != "" && id != client.Name {
		return nil, nil, other()
	}
	return []byte{}, client, nil
}

// readBearer reads n,[a=ID],^Aauth=Bearer TOKEN^A[KEY=VALUE^A...]^A.
func readBearer(message []byte) (id, token string, ok bool) {
	header, rest, found := bytes.Cut(message, []byte{1})
	pairs, complete := bytes.CutSuffix(rest, []byte{1, 1})
	text, hasID := strings.CutPrefix(string(header), "n,")
	text, closed := strings.CutSuffix(text, ",")
	if !found || !complete || !hasID || !closed {
		return "", "", false
	}
	if text != "" {
		name, named := strings.CutPrefix(text, "a=")
		if id, ok = unescape(name); !named || !ok {
			return "", "", false
		}
	}
	for pair := range bytes.SplitSeq(pairs, []byte{1}) {
		key, value, ok := strings.Cut(string(pair), "=")
		if !ok || key == "auth" && token != "" {
			return "", "", false
		}
		if key == "auth" {
			scheme, credential, _ := strings.Cut(value, " ")
			if !strings.EqualFold(scheme, "bearer") {
				return "", "", false
			}
			token = strings.TrimLeft(credential, " ")
		}
	}
	return id, token, token != ""
}
