package saslserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// document is a JWKS document of public keys by id.
func document(t *testing.T, keys map[string]crypto.PublicKey, more ...map[string]string) []byte {
	t.Helper()
	list := more
	for id, public := range keys {
		k := map[string]string{"kid": id}
		switch p := public.(type) {
		case *rsa.PublicKey:
			k["kty"], k["n"], k["e"] = "RSA", b64(p.N.Bytes()), b64(big.NewInt(int64(p.E)).Bytes())
		case *ecdsa.PublicKey:
			raw, err := p.Bytes()
			require.NoError(t, err)
			half := (len(raw) - 1) / 2
			k["kty"], k["crv"], k["x"], k["y"] = "EC", p.Curve.Params().Name, b64(raw[1:1+half]), b64(raw[1+half:])
		case ed25519.PublicKey:
			k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(p)
		}
		list = append(list, k)
	}
	text, err := json.Marshal(map[string]any{"keys": list})
	require.NoError(t, err)
	return text
}

func claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "alice", "iss": "https://issuer.example", "aud": []string{"other", "klink"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func signed(t *testing.T, method jwt.SigningMethod, id string, key any, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if id != "" {
		token.Header["kid"] = id
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func TestTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "jwks.json")
	keys := map[string]crypto.PublicKey{"r": &rsaKey.PublicKey, "e": &p256.PublicKey, "f": &p384.PublicKey, "d": edPublic}
	shared := b64([]byte("a key that everybody knows, long enough"))
	require.NoError(t, os.WriteFile(file, document(t, keys, map[string]string{"kty": "oct", "kid": "o", "k": shared}), 0o600))
	opened, err := OpenKeys("file://"+file, http.DefaultClient, slog.Default())
	require.NoError(t, err)
	tokens := NewTokens(TokenConfig{Audiences: []string{"klink", "x"}, Issuer: "https://issuer.example", NameClaim: "sub"}, opened)

	for name, token := range map[string]string{
		"RS256":       signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(nil)),
		"PS512":       signed(t, jwt.SigningMethodPS512, "r", rsaKey, claims(nil)),
		"ES256":       signed(t, jwt.SigningMethodES256, "e", p256, claims(nil)),
		"ES384":       signed(t, jwt.SigningMethodES384, "f", p384, claims(nil)),
		"EdDSA":       signed(t, jwt.SigningMethodEdDSA, "d", edKey, claims(nil)),
		"without kid": signed(t, jwt.SigningMethodES256, "", p256, claims(nil)),
	} {
		client, err := tokens.Verify(t.Context(), token)
		require.NoError(t, err, name)
		require.Equal(t, "alice", client.Name, name)
		require.WithinDuration(t, time.Now().Add(time.Hour), client.Expires, time.Minute)
	}

	publicDER, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	good := signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(nil))
	header, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	critical := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	critical.Header["kid"], critical.Header["crit"] = "r", []string{"x"}
	withCritical, err := critical.SignedString(rsaKey)
	require.NoError(t, err)
	for name, token := range map[string]string{
		"no signature":                  signed(t, jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType, claims(nil)),
		"HMAC with the public key":      signed(t, jwt.SigningMethodHS256, "r", publicPEM, claims(nil)),
		"HMAC with the DER":             signed(t, jwt.SigningMethodHS256, "r", publicDER, claims(nil)),
		"HMAC with a key of the file":   signed(t, jwt.SigningMethodHS256, "o", []byte("a key that everybody knows, long enough"), claims(nil)),
		"another key":                   signed(t, jwt.SigningMethodRS256, "r", stranger, claims(nil)),
		"unknown key":                   signed(t, jwt.SigningMethodRS256, "z", stranger, claims(nil)),
		"another curve":                 signed(t, jwt.SigningMethodES256, "f", p256, claims(nil)),
		"kind of key":                   signed(t, jwt.SigningMethodES256, "r", p256, claims(nil)),
		"expired":                       signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})),
		"expired within the clock skew": signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"exp": time.Now().Add(-5 * time.Second).Unix()})),
		"no expiry":                     signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"exp": nil})),
		"not yet":                       signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})),
		"issued tomorrow":               signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"iat": time.Now().Add(24 * time.Hour).Unix()})),
		"audience":                      signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"aud": "other"})),
		"no audience":                   signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"aud": nil})),
		"issuer":                        signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"iss": "https://evil.example"})),
		"no name":                       signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"sub": nil})),
		"name is a number":              signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"sub": 5})),
		"name with a newline":           signed(t, jwt.SigningMethodRS256, "r", rsaKey, claims(map[string]any{"sub": "alice\nbob"})),
		"critical extension":            withCritical,
		"cut":                           header + "." + body,
		"no signature part":             header + "." + body + ".",
		"other body":                    header + "." + b64([]byte(`{"sub":"root"}`)) + "." + signature,
		"nothing":                       "",
		"dots":                          strings.Repeat(".", 1000),
	} {
		_, err := tokens.Verify(t.Context(), token)
		require.Error(t, err, name)
		if token != "" && len(body) > 20 {
			require.NotContains(t, err.Error(), body, name)
		}
	}

	// The file is followed.
	require.NoError(t, os.WriteFile(file, document(t, map[string]crypto.PublicKey{"z": &stranger.PublicKey}), 0o600))
	_, err = tokens.Verify(t.Context(), good)
	require.ErrorContains(t, err, "signed with a key that klink does not know")
	_, err = tokens.Verify(t.Context(), signed(t, jwt.SigningMethodRS256, "z", stranger, claims(nil)))
	require.NoError(t, err)

	// OAUTHBEARER, as brokers answer it.
	e := &bearerExchange{tokens: tokens}
	reply, client, err := e.Step(t.Context(), []byte("n,,\x01auth=Bearer "+good+"\x01\x01"))
	require.NoError(t, err)
	require.Nil(t, client)
	require.Equal(t, refusedToken, string(reply))
	_, _, err = e.Step(t.Context(), []byte{1})
	require.ErrorContains(t, err, "invalid credentials with SASL mechanism OAUTHBEARER")
	fresh := signed(t, jwt.SigningMethodRS256, "z", stranger, claims(nil))
	for message, ok := range map[string]bool{
		"n,,\x01auth=Bearer " + fresh + "\x01\x01":                              true,
		"n,a=alice,\x01auth=bearer " + fresh + "\x01traceId=1\x01\x01":          true,
		"n,a=bob,\x01auth=Bearer " + fresh + "\x01\x01":                         false,
		"n,,\x01auth=Basic " + fresh + "\x01\x01":                               false,
		"n,,\x01auth=Bearer " + fresh + "\x01auth=Bearer " + fresh + "\x01\x01": false,
		"y,,\x01auth=Bearer " + fresh + "\x01\x01":                              false,
		"n,,auth=Bearer " + fresh:                                               false,
		"":                                                                      false,
	} {
		_, client, err := (&bearerExchange{tokens: tokens}).Step(t.Context(), []byte(message))
		require.Equal(t, ok, err == nil && client != nil && client.Name == "alice", message)
	}
}

// An endpoint is asked once for many tokens, and not again for each key that it does not have.
func TestKeysOfAnEndpoint(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	var asked atomic.Int64
	var broken atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if broken.Load() {
			http.Redirect(w, &http.Request{}, "https://elsewhere.example/", http.StatusFound)
			return
		}
		_, _ = w.Write(document(t, map[string]crypto.PublicKey{"e": &key.PublicKey}))
	}))
	defer server.Close()
	keys, err := OpenKeys(server.URL+"/keys", server.Client(), slog.Default())
	require.NoError(t, err)
	tokens := NewTokens(TokenConfig{NameClaim: "sub"}, keys)
	for range 5 {
		_, err = tokens.Verify(t.Context(), signed(t, jwt.SigningMethodES256, "e", key, claims(nil)))
		require.NoError(t, err)
		_, err = tokens.Verify(t.Context(), signed(t, jwt.SigningMethodES256, "other", key, claims(nil)))
		require.Error(t, err)
	}
	require.Equal(t, int64(1), asked.Load())

	// Long after, the endpoint fails: the keys stay.
	broken.Store(true)
	keys.asked, keys.got = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	_, err = tokens.Verify(t.Context(), signed(t, jwt.SigningMethodES256, "e", key, claims(nil)))
	require.NoError(t, err)
	require.Equal(t, int64(2), asked.Load())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	keys.turn <- struct{}{}
	_, err = tokens.Verify(canceled, signed(t, jwt.SigningMethodES256, "e", key, claims(nil)))
	require.Error(t, err)

	for _, address := range []string{"http://a.example/keys", "https://user:secret@a.example/", "file:relative", "file://host/path", "ftp://a", "", "%"} {
		_, err := OpenKeys(address, http.DefaultClient, slog.Default())
		require.Error(t, err, address)
	}
}

func TestHostileKeys(t *testing.T) {
	for _, text := range []string{
		"", "[]", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`, `{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}`,
	} {
		_, err := parseKeys([]byte(text))
		require.Error(t, err, text)
	}
}
