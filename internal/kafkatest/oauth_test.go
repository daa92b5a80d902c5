package kafkatest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// TestOAuthBearer: brokers take the tokens of their issuer, and no others.
func TestOAuthBearer(t *testing.T) {
	t.Parallel()
	issuer, other := NewIssuer(t), NewIssuer(t)
	c := Start(t, SASL(), OAuthBearer(issuer, time.Minute))
	login := func(token string) error {
		cl := NewClient(t, kgo.SeedBrokers(c.seeds()...), kgo.DialTLSConfig(c.tls.clientConfig()), kgo.SASL(oauth.Auth{Token: token}.AsMechanism()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return cl.Ping(ctx)
	}
	if err := login(issuer.Token(t, "u", time.Minute)); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another's": other.Token(t, "u", time.Minute), "expired": issuer.Token(t, "u", -time.Minute), "none": "x.y.z",
	} {
		if err := login(token); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
