package saslserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"klink/internal/saslserver/users"
)

// clockSkew is by how much the clocks of klink and of whoever issues tokens may differ, as with a
// broker (sasl.oauthbearer.clock.skew.seconds). It makes no token last longer.
const clockSkew = 30 * time.Second

// signatures are the ways of signing that klink takes: with a private key, so that whoever can
// verify a token cannot make one.
var signatures = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// TokenConfig says which tokens are valid.
type TokenConfig struct {
	Audiences []string // one of them is in the token; none = not checked
	Issuer    string   // "" = not checked
	NameClaim string   // the claim that has the client's name
}

// Tokens verifies access tokens: JWTs that are signed.
type Tokens struct {
	config TokenConfig
	keys   *Keys
	parser *jwt.Parser
}

// NewTokens returns a verifier of tokens that are signed with keys.
func NewTokens(config TokenConfig, keys *Keys) *Tokens {
	options := []jwt.ParserOption{jwt.WithValidMethods(signatures), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding()}
	if len(config.Audiences) > 0 {
		options = append(options, jwt.WithAudience(config.Audiences...))
	}
	if config.Issuer != "" {
		options = append(options, jwt.WithIssuer(config.Issuer))
	}
	return &Tokens{config: config, keys: keys, parser: jwt.NewParser(options...)}
}

// Verify returns whom a token names, and how long. Errors do not show the token.
func (t *Tokens) Verify(ctx context.Context, token string) (*Client, error) {
	claims := jwt.MapClaims{}
	_, err := t.parser.ParseWithClaims(token, claims, func(parsed *jwt.Token) (any, error) {
		id, _ := parsed.Header["kid"].(string)
		if _, critical := parsed.Header["crit"]; critical {
			return nil, errors.New("the token has extensions that must be understood")
		}
		return t.keys.For(ctx, id, parsed.Method.Alg())
	})
	if err != nil {
		return nil, reasonOf(err)
	}
	name, _ := claims[t.config.NameClaim].(string)
	if err := users.CheckName(name); err != nil {
		return nil, fmt.Errorf("the token's claim %s: %w", t.config.NameClaim, err)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || !expires.After(time.Now()) {
		return nil, errors.New("the token has expired")
	}
	return &Client{Name: name, Expires: expires.Time}, nil
}

// reasonOf says why a token is refused, without what the token says.
func reasonOf(err error) error {
	for _, r := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenMalformed, "is malformed"},
		{jwt.ErrTokenExpired, "has expired"},
		{jwt.ErrTokenNotValidYet, "is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "was issued in the future"},
		{jwt.ErrTokenInvalidAudience, "is for another audience"},
		{jwt.ErrTokenInvalidIssuer, "is of another issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "lacks a claim"},
		{errNoKey, "is signed with a key that klink does not know, or in a way that the key is not for"},
		{jwt.ErrTokenSignatureInvalid, "has no valid signature"},
	} {
		if errors.Is(err, r.is) {
			return errors.New("the token " + r.text)
		}
	}
	if slices.ContainsFunc([]error{context.Canceled, context.DeadlineExceeded, errKeysUnknown}, func(e error) bool { return errors.Is(err, e) }) {
		return errKeysUnknown
	}
	return errors.New("the token cannot be verified")
}
