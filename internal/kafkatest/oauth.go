package kafkatest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Issuer is an OAuth token endpoint on https, for the grant client_credentials, whose tokens the
// brokers of [OAuthBearer] take. The client id becomes the user. It lives as long as its test.
type Issuer struct {
	dir    string
	key    *rsa.PrivateKey
	certs  *certificates
	server *httptest.Server
	asked  atomic.Int64

	mu       sync.Mutex
	secrets  map[string]string // by client id
	lifetime time.Duration
	down     bool
}

// NewIssuer starts an issuer of tokens with a lifetime of an hour.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{dir: t.TempDir(), secrets: map[string]string{}, lifetime: time.Hour}
	var err error
	if i.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if i.certs, err = newCertificates(i.dir); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(i.certs.certFile, i.certs.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.keySet(), i.jwks(), 0o600); err != nil {
		t.Fatal(err)
	}
	i.server = httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	i.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	i.server.Config.ErrorLog = log.New(testLog{t}, "issuer: ", 0)
	i.server.StartTLS()
	t.Cleanup(i.server.Close)
	return i
}

// testLog writes the complaints of a server into the log of a test.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// URL is the token endpoint.
func (i *Issuer) URL() string { return i.server.URL + "/token" }

// CAFile is the PEM file of the authority that signed the endpoint's certificate.
func (i *Issuer) CAFile() string { return i.certs.caFile }

// CA is the content of [Issuer.CAFile].
func (i *Issuer) CA(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(i.certs.caFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// SetSecret makes the issuer know a client, and no other secret of the client from now on.
func (i *Issuer) SetSecret(client, secret string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.secrets[client] = secret
}

// SetLifetime sets how long later tokens live.
func (i *Issuer) SetLifetime(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lifetime = d
}

// SetDown makes the endpoint answer nothing but that it is unavailable.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Issued is how many tokens the endpoint has given out.
func (i *Issuer) Issued() int { return int(i.asked.Load()) }

// Token makes a token for a user that lives for so long. A negative lifetime makes one that has
// expired.
func (i *Issuer) Token(t testing.TB, user string, lifetime time.Duration) string {
	t.Helper()
	token, err := i.sign(user, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (i *Issuer) sign(user string, lifetime time.Duration) (string, error) {
	now := time.Now()
	claims := map[string]any{
		"iss": "kafkatest", "aud": "kafkatest", "sub": user,
		"iat": float64(now.Add(-max(0, -2*lifetime)).UnixMilli()) / 1000, "exp": float64(now.Add(lifetime).UnixMilli()) / 1000,
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, digest[:])
	return text + "." + encode(signature), err
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	lifetime, down := i.lifetime, i.down
	user, password, _ := r.BasicAuth()
	secret, known := i.secrets[user]
	i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	token, err := i.sign(user, lifetime)
	switch {
	case down || err != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Method != http.MethodPost || r.FormValue("grant_type") != "client_credentials":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"unsupported_grant_type"}`)
	case !known || secret != password:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":"wrong secret %s"}`, password)
	default:
		i.asked.Add(1)
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, token, int(lifetime.Seconds()))
	}
}

func (i *Issuer) keySet() string { return filepath.Join(i.dir, "jwks.json") }

// jwks is the public key as brokers read it (RFC 7517).
func (i *Issuer) jwks() []byte {
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","kid":"1","use":"sig","alg":"RS256","n":%q,"e":"AQAB"}]}`, encode(i.key.N.Bytes()))
}

// Properties are those with which a Java client, or klink, authenticates with tokens of this
// issuer, without what the cluster's TLS needs.
func (i *Issuer) Properties(protocol, client, secret string) map[string]string {
	return map[string]string{
		"security.protocol": protocol, "sasl.mechanism": "OAUTHBEARER",
		"sasl.login.callback.handler.class":   "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
		"sasl.oauthbearer.token.endpoint.url": i.URL(),
		"sasl.jaas.config": fmt.Sprintf(`org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId="%s" clientSecret="%s"`+
			` ssl.truststore.type="PEM" ssl.truststore.location="%s";`, client, secret, i.CAFile()),
	}
}

// OAuthBearer lets clients also log in with OAUTHBEARER and tokens of an issuer. Sessions with
// tokens last for reauth at most, and not longer than their token (KIP-368). It goes with [SASL] or
// [SASLPlaintext], and only for KRaft clusters.
func OAuthBearer(i *Issuer, reauth time.Duration) Option {
	return func(o *options) { o.issuer, o.reauth = i, reauth }
}

// oauthConfig returns the broker's configs for tokens.
func (o *options) oauthConfig() map[string]string {
	const module, listener = "org.apache.kafka.common.security.oauthbearer.", "listener.name.client.oauthbearer."
	return map[string]string{
		listener + "sasl.jaas.config":                   module + "OAuthBearerLoginModule required;",
		listener + "sasl.server.callback.handler.class": module + "OAuthBearerValidatorCallbackHandler",
		listener + "connections.max.reauth.ms":          strconv.FormatInt(o.reauth.Milliseconds(), 10),
		"sasl.oauthbearer.jwks.endpoint.url":            "file://" + o.issuer.keySet(),
		"sasl.oauthbearer.expected.audience":            "kafkatest",
		"sasl.oauthbearer.expected.issuer":              "kafkatest",
		"sasl.oauthbearer.clock.skew.seconds":           "0",
	}
}

// oauthFlags are the JVM flags without which a broker reads no keys.
func (o *options) oauthFlags() []string {
	if o.issuer == nil {
		return nil
	}
	return []string{"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://" + o.issuer.keySet()}
}
