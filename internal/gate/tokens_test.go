package gate

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"klink/internal/saslserver"
)

// A login by token lasts as long as the token: who does not log in again is out, and who does goes
// on. A token of somebody else does not help.
func TestTokensRunOut(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public)), 0o600))
	keys, err := saslserver.OpenKeys("file://"+file, http.DefaultClient, slog.Default())
	require.NoError(t, err)
	w := newWorld(t, settings{mechanisms: []string{saslserver.OAuthBearer}, tokens: saslserver.NewTokens(saslserver.TokenConfig{NameClaim: "sub"}, keys)},
		entry("User:alice", destinationUser, destinationPassword), entry("User:bob", destinationUser, destinationPassword))
	bearer := func(name string, lasts time.Duration) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": name, "exp": jwt.NewNumericDate(time.Now().Add(lasts))}).SignedString(key)
		require.NoError(t, err)
		return "n,,\x01auth=Bearer " + text + "\x01\x01"
	}
	in := func(lasts time.Duration) *raw {
		r := w.raw()
		require.Zero(t, r.handshake("OAUTHBEARER").ErrorCode)
		resp := r.authenticate(bearer("alice", lasts))
		require.Zero(t, resp.ErrorCode)
		require.LessOrEqual(t, resp.SessionLifetimeMillis, lasts.Milliseconds())
		require.Positive(t, resp.SessionLifetimeMillis)
		return r
	}
	leaves, stays, turns := in(3*time.Second), in(3*time.Second), in(time.Hour)
	require.NotNil(t, leaves.ask(metadata()))
	require.NotNil(t, stays.ask(metadata()))
	require.Zero(t, stays.handshake("OAUTHBEARER").ErrorCode)
	require.Zero(t, stays.authenticate(bearer("alice", time.Hour)).ErrorCode)
	// The clock runs until the token is over: a request then ends the connection.
	require.Eventually(t, func() bool { return leaves.ask(metadata()) == nil }, time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), errExpired.Error()) }, time.Minute, 10*time.Millisecond)
	require.NotNil(t, stays.ask(metadata()))

	require.Zero(t, turns.handshake("OAUTHBEARER").ErrorCode)
	require.Equal(t, kerr.SaslAuthenticationFailed.Code, turns.authenticate(bearer("bob", time.Hour)).ErrorCode)
	require.Nil(t, turns.ask(metadata()))

	// A token that is refused is answered in the form of RFC 7628 first.
	r := w.raw()
	require.Zero(t, r.handshake("OAUTHBEARER").ErrorCode)
	resp := r.authenticate(bearer("alice", -time.Hour))
	require.Zero(t, resp.ErrorCode)
	require.JSONEq(t, `{"status":"invalid_token"}`, string(resp.SASLAuthBytes))
	require.Equal(t, kerr.SaslAuthenticationFailed.Code, r.authenticate("\x01").ErrorCode)
	require.True(t, r.ended())
}
