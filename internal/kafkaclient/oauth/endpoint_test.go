package oauth

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const secret = "S3CRET/with+signs"

// jwt is a token with claims, without a signature.
func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func expiring(in time.Duration) string {
	return jwt(fmt.Sprintf(`{"sub":"u","iat":%d,"exp":%d}`, time.Now().Unix(), time.Now().Add(in).Unix()))
}

// endpoint serves one answer, and returns how to ask for it and what was asked.
func endpoint(t *testing.T, answer http.HandlerFunc) (Endpoint, *[]*http.Request) {
	t.Helper()
	asked := new([]*http.Request)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		*asked = append(*asked, r)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL + "/token?tenant=1")
	require.NoError(t, err)
	return Endpoint{
		URL: u, ClientID: "i d", ClientSecret: secret, Scope: "a b", Connect: 10 * time.Second, Read: 10 * time.Second,
		TLS: func() *tls.Config { return srv.Client().Transport.(*http.Transport).TLSClientConfig },
	}, asked
}

func TestTheRequest(t *testing.T) {
	token := expiring(time.Hour)
	e, asked := endpoint(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"access_token":%q}`, token) })
	for _, encode := range []bool{false, true} {
		e.EncodeHeader = encode
		got, err := e.Fetch()(t.Context())
		require.NoError(t, err)
		require.Equal(t, token, got.Value)
		r := (*asked)[len(*asked)-1]
		require.Equal(t, "POST /token?tenant=1", r.Method+" "+r.URL.String())
		require.Equal(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}}, r.PostForm)
		user, password, _ := r.BasicAuth()
		want := [2]string{"i d", secret}
		if encode {
			want = [2]string{url.QueryEscape("i d"), url.QueryEscape(secret)}
		}
		require.Equal(t, want, [2]string{user, password})
	}
}

func TestAnswers(t *testing.T) {
	hour, soon := expiring(time.Hour), time.Now().Add(90*time.Second)
	for name, c := range map[string]struct {
		code    int
		body    string
		expires time.Time // zero = refused
		text    string
		final   bool
	}{
		"id_token":            {200, `{"id_token":"` + hour + `"}`, time.Now().Add(time.Hour), "", false},
		"opaque":              {201, `{"access_token":"opaque","expires_in":90}`, soon, "", false},
		"expires_in as text":  {200, `{"access_token":"opaque","expires_in":"90"}`, soon, "", false},
		"the token's own":     {200, `{"access_token":"` + hour + `","expires_in":5}`, time.Now().Add(time.Hour), "", false},
		"opaque for ever":     {200, `{"access_token":"opaque"}`, time.Time{}, "nothing says when it expires", false},
		"expired":             {200, `{"access_token":"` + expiring(-time.Hour) + `"}`, time.Time{}, "it expired at", false},
		"odd claims":          {200, `{"access_token":"` + jwt(`{"exp":"x"}`) + `"}`, time.Time{}, "not JSON with times", false},
		"huge exp":            {200, `{"access_token":"` + jwt(`{"exp":1e300}`) + `"}`, time.UnixMilli((1 << 33) * 1000), "", false},
		"control characters":  {200, `{"access_token":"a\u0001auth=b","expires_in":90}`, time.Time{}, "characters that no token has", false},
		"no token":            {200, `{}`, time.Time{}, "no access_token", false},
		"HTML":                {200, `<html>` + secret, time.Time{}, "not JSON", false},
		"too large":           {200, `{"access_token":"` + strings.Repeat("x", maxAnswer) + `"}`, time.Time{}, "larger than", false},
		"token too large":     {200, `{"access_token":"` + strings.Repeat("x", maxToken+1) + `","expires_in":9}`, time.Time{}, "at most", false},
		"wrong secret":        {401, `{"error":"invalid_client","error_description":"secret ` + secret + ` is wrong` + strings.Repeat("!", 999) + `"}`, time.Time{}, "answers 401: invalid_client: secret [hidden] is wrong!!!", true},
		"unavailable":         {503, `{"error":"server_error"}`, time.Time{}, "answers 503: server_error", false},
		"too many":            {429, ``, time.Time{}, "answers 429", false},
		"another form":        {400, `{"secret":"` + secret + `"}`, time.Time{}, "answers 400", true},
		"escapes in an error": {400, `{"error":"\u001b[31m\u0000red"}`, time.Time{}, "answers 400: [31mred", true},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := endpoint(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
				fmt.Fprint(w, c.body)
			})
			token, err := e.Fetch()(t.Context())
			if !c.expires.IsZero() {
				require.NoError(t, err)
				require.WithinDuration(t, c.expires, token.Expires, time.Minute)
				return
			}
			var refusal *Error
			require.ErrorAs(t, err, &refusal)
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, e.URL.Host)
			require.Equal(t, c.final, refusal.refused)
			require.Less(t, len(err.Error()), 400)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

// TestTheSecretGoesNowhereElse: klink follows no redirect, and asks nobody whom it does not trust.
func TestTheSecretGoesNowhereElse(t *testing.T) {
	other, caught := endpoint(t, func(http.ResponseWriter, *http.Request) {})
	for _, code := range []int{301, 302, 303, 307, 308} {
		e, _ := endpoint(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL.String(), code) })
		_, err := e.Fetch()(t.Context())
		require.ErrorContains(t, err, "it redirects")
	}
	stranger := other
	stranger.TLS = nil
	_, err := stranger.Fetch()(t.Context())
	require.ErrorContains(t, err, "certificate")
	require.Empty(t, *caught)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = other.Fetch()(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// TestASlowEndpoint: an answer that does not come ends the request.
func TestASlowEndpoint(t *testing.T) {
	release := make(chan struct{})
	e, _ := endpoint(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	e.Read = time.Millisecond
	e.Connect = 50 * time.Millisecond
	_, err := e.Fetch()(t.Context())
	var refusal *Error
	require.ErrorAs(t, err, &refusal)
	require.False(t, refusal.refused)
}

func TestTokensFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	fetch := FromFile(func() ([]byte, error) { return os.ReadFile(path) })
	_, err := fetch(t.Context())
	require.ErrorContains(t, err, "no such file")
	first := expiring(time.Hour)
	require.NoError(t, os.WriteFile(path, []byte(first+"\n"), 0o600))
	token, err := fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, token.Value)
	// What is no token is sent to nobody.
	require.NoError(t, os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nS3CRET\n"), 0o600))
	_, err = fetch(t.Context())
	require.ErrorContains(t, err, "characters that no token has")
	require.NotContains(t, err.Error(), "S3CRET")
}

func TestUnsecuredTokens(t *testing.T) {
	fetch, err := Unsecured(map[string]string{
		"unsecuredLoginStringClaim_sub": "dev", "unsecuredLoginNumberClaim_n": "7", "unsecuredLoginListClaim_scope": "|a|b",
		"unsecuredLoginLifetimeSeconds": "60", "unsecuredLoginExtension_x": "y",
	})
	require.NoError(t, err)
	token, err := fetch(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Minute), token.Expires, 10*time.Second)
	parts := strings.Split(token.Value, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.Contains(t, string(payload), `"n":7,"scope":["a","b"],"sub":"dev"`)
	require.Equal(t, "", parts[2])
	read, err := parseToken(token.Value, time.Now(), 0)
	require.NoError(t, err)
	require.WithinDuration(t, token.Expires, read.Expires, time.Second)
	for option, text := range map[string]string{
		"unsecuredLoginLifetimeSeconds=x":   "number of seconds",
		"unsecuredLoginNumberClaim_n=x":     "want a number",
		"unsecuredLoginStringClaim_exp=1":   "cannot be set",
		"unsecuredLoginOther=1":             "does not know it",
		"unsecuredLoginPrincipalClaimName=": "is missing",
	} {
		name, value, _ := strings.Cut(option, "=")
		_, err := Unsecured(map[string]string{"unsecuredLoginStringClaim_sub": "dev", name: value})
		require.ErrorContains(t, err, text, option)
	}
}

func TestCheckExtension(t *testing.T) {
	require.NoError(t, CheckExtension("logicalCluster", "lkc-1"))
	for name, value := range map[string]string{"auth": "x", "a_b": "x", "": "x", "a": "", "b": "x\x01y"} {
		require.Error(t, CheckExtension(name, value), name)
	}
}

// FuzzParse: no answer of an endpoint does harm, and no token can end the message that it is put
// in.
func FuzzParse(f *testing.F) {
	f.Add(`{"access_token":"` + jwt(`{"exp":9e9}`) + `"}`)
	f.Add(`{"access_token":"x","expires_in":1e999}`)
	f.Add(`{"error":"x","error_description":"y"}`)
	e := Endpoint{URL: &url.URL{Scheme: "https", Host: "h"}, ClientSecret: secret}
	f.Fuzz(func(t *testing.T, body string) {
		_ = e.reason([]byte(body))
		if token, err := e.parse([]byte(body)); err == nil {
			require.NotContains(t, token.Value, "\x01")
			require.True(t, token.Expires.After(time.Now().Add(-time.Minute)))
		}
	})
}
