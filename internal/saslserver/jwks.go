package saslserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"klink/internal/follow"
)

const (
	// maxKeys bounds the document with the keys in bytes.
	maxKeys = 1 << 20
	// keysFor is how long keys from an endpoint are used before klink asks again.
	keysFor = 10 * time.Minute
	// askAgain is how long klink waits until it asks again, because of an unknown key or because
	// the endpoint did not answer. Tokens of strangers make klink ask no more often.
	askAgain = 30 * time.Second
	// askTime is how long an endpoint has to answer.
	askTime = 10 * time.Second
)

var (
	errNoKey       = errors.New("no such key")
	errKeysUnknown = errors.New("klink could not get the keys of tokens")
)

// key is a public key of a JWKS document.
type key struct {
	id, alg string
	public  crypto.PublicKey
}

// Keys are the keys that tokens are signed with, from a JWKS document (RFC 7517). Safe for
// concurrent use.
type Keys struct {
	file *follow.File[[]key] // nil = they come from an endpoint

	address string
	client  *http.Client
	log     *slog.Logger
	turn    chan struct{} // held while the endpoint is asked; guards what follows
	keys    []key
	got     time.Time // when the keys came
	asked   time.Time // when the endpoint was asked last
}

// OpenKeys returns the keys at an address: file:///PATH, which is followed, or https://... client
// asks an endpoint.
func OpenKeys(address string, client *http.Client, log *slog.Logger) (*Keys, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("is no URL")
	}
	switch {
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		file, err := follow.Open(u.Path, "keys of tokens", maxKeys, log, func(text []byte, _ []key) ([]key, error) { return parseKeys(text) })
		if err != nil {
			return nil, err
		}
		return &Keys{file: file}, nil
	case u.Scheme == "https" && u.Host != "" && u.User == nil:
		asks := *client
		asks.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("klink follows no redirect") }
		return &Keys{address: address, client: &asks, log: log, turn: make(chan struct{}, 1)}, nil
	}
	return nil, errors.New("want https://HOST/PATH or file:///PATH")
}

// For returns the keys that a token with this key id, which may be empty, and of this algorithm can
// be signed with.
func (k *Keys) For(ctx context.Context, id, alg string) (jwt.VerificationKeySet, error) {
	if k.file != nil {
		k.file.Refresh()
		return choose(k.file.Value(), id, alg)
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return jwt.VerificationKeySet{}, ctx.Err()
	}
	set, err := choose(k.keys, id, alg)
	if (err != nil || time.Since(k.got) > keysFor) && time.Since(k.asked) > askAgain {
		k.ask(ctx)
		set, err = choose(k.keys, id, alg)
	}
	if err != nil && k.got.IsZero() {
		err = errKeysUnknown
	}
	return set, err
}

// ask gets the keys from the endpoint. If that fails, those of before stay. turn is held.
func (k *Keys) ask(ctx context.Context) {
	k.asked = time.Now()
	keys, err := k.fetch(ctx)
	if err != nil {
		k.log.Error("could not get the keys of access tokens; klink goes on with those it has", "address", k.address, "error", err)
		return
	}
	k.keys, k.got = keys, time.Now()
}

func (k *Keys) fetch(ctx context.Context) ([]key, error) {
	// The answer is for everybody, not just for the client that waits for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.address, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err == nil && len(text) > maxKeys {
		err = fmt.Errorf("larger than %d bytes", maxKeys)
	}
	if err != nil {
		return nil, err
	}
	return parseKeys(text)
}

// choose returns the keys that fit.
func choose(keys []key, id, alg string) (set jwt.VerificationKeySet, err error) {
	for _, k := range keys {
		if (id == "" || k.id == id) && (k.alg == "" || k.alg == alg) && fits(k.public, alg) {
			set.Keys = append(set.Keys, k.public)
		}
	}
	if len(set.Keys) == 0 {
		return set, errNoKey
	}
	return set, nil
}

// fits reports whether a key is of the kind that an algorithm needs.
func fits(public crypto.PublicKey, alg string) bool {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg] == p.Curve
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// parseKeys reads a JWKS document. Keys that are not for signatures, or of a kind that klink does
// not know, do not count; a document without others is an error.
func parseKeys(text []byte) ([]key, error) {
	var document struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, errors.New("no JWKS document")
	}
	var keys []key
	for i, j := range document.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		public, err := j.public()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if public != nil {
			keys = append(keys, key{j.ID, j.Alg, public})
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWKS document has no public key for signatures")
	}
	return keys, nil
}

// jwk is a key as a JWKS document has it.
type jwk struct {
	Kind  string `json:"kty"`
	ID    string `json:"kid"`
	Alg   string `json:"alg"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	N     string `json:"n"`
	E     string `json:"e"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// public returns the key; nil if it is of a kind that klink does not use.
func (j jwk) public() (crypto.PublicKey, error) {
	errBad := errors.New("the key is malformed")
	number := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
		if err != nil {
			return nil
		}
		return b
	}
	switch curve := curves[j.Curve]; {
	case j.Kind == "RSA":
		n, e := new(big.Int).SetBytes(number(j.N)), new(big.Int).SetBytes(number(j.E))
		if n.BitLen() < 2048 || n.BitLen() > 16384 || e.BitLen() < 2 || e.BitLen() > 31 {
			return nil, errors.New("an RSA key must have 2048 to 16384 bits")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case j.Kind == "EC" && curve != nil:
		size := (curve.Params().BitSize + 7) / 8
		x, y := number(j.X), number(j.Y)
		if len(x) != size || len(y) != size {
			return nil, errBad
		}
		public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, errBad
		}
		return public, nil
	case j.Kind == "OKP" && j.Curve == "Ed25519":
		x := number(j.X)
		if len(x) != ed25519.PublicKeySize {
			return nil, errBad
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, nil
}
