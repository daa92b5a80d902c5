package oauth

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxAnswer bounds the answer of a token endpoint in bytes, and maxHeader its header.
	maxAnswer = maxToken + 16<<10
	maxHeader = 64 << 10
)

// Endpoint asks a token endpoint with the grant client_credentials (RFC 6749, section 4.4), in the
// form in which Kafka's ClientCredentialsJwtRetriever does.
type Endpoint struct {
	URL                           *url.URL
	ClientID, ClientSecret, Scope string
	// EncodeHeader: id and secret are URL encoded in the header, as the RFC says and Kafka by default
	// does not.
	EncodeHeader bool
	// TLS returns how to check the endpoint if URL is https. It is asked before each connection.
	// nil = the system's authorities.
	TLS func() *tls.Config
	// Connect bounds how long connecting takes, and Read how long the answer does.
	Connect, Read time.Duration
}

// errRedirect ends a request that is answered with a redirect: the secret goes only where the
// config says.
var errRedirect = errors.New("it redirects, which klink does not follow: set the address that it redirects to")

// Fetch returns the way to get tokens from the endpoint.
func (e Endpoint) Fetch() Fetch {
	dialer := &net.Dialer{Timeout: e.Connect}
	return func(ctx context.Context) (Token, error) {
		var trust *tls.Config
		if e.TLS != nil {
			trust = e.TLS()
		}
		token, err := e.ask(ctx, &http.Client{
			Timeout: e.Connect + e.Read,
			Transport: &http.Transport{
				Proxy:       http.ProxyFromEnvironment,
				DialContext: dialer.DialContext, TLSClientConfig: trust, TLSHandshakeTimeout: e.Connect,
				DisableKeepAlives:      true, // the next token is minutes away
				MaxResponseHeaderBytes: maxHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
		})
		if err != nil && ctx.Err() != nil {
			return token, ctx.Err()
		}
		return token, err
	}
}

func (e Endpoint) ask(ctx context.Context, client *http.Client) (Token, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if e.Scope != "" {
		form.Set("scope", e.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return Token{}, refused("%s: it cannot be asked", e.URL.Host)
	}
	id, secret := e.ClientID, e.ClientSecret
	if e.EncodeHeader {
		id, secret = url.QueryEscape(id), url.QueryEscape(secret)
	}
	req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, errRedirect) {
			return Token{}, refused("token endpoint %s: %v", e.URL.Host, errRedirect)
		}
		// A url.Error also has the whole URL.
		if outer := new(url.Error); errors.As(err, &outer) {
			err = outer.Err
		}
		return Token{}, failed("token endpoint %s: %s", e.URL.Host, e.shortened(err.Error()))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Token{}, failed("token endpoint %s: the answer breaks off", e.URL.Host)
	case len(body) > maxAnswer:
		return Token{}, failed("token endpoint %s: the answer is larger than %d bytes", e.URL.Host, maxAnswer)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		text := fmt.Sprintf("token endpoint %s answers %d%s", e.URL.Host, resp.StatusCode, e.reason(body))
		return Token{}, &Error{text: text, refused: resp.StatusCode < 500 && !slices.Contains(passing, resp.StatusCode)}
	}
	return e.parse(body)
}

// passing are the codes below 500 that do not say that the request is wrong.
var passing = []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}

// reason is what an endpoint says of a request that it refuses (RFC 6749, section 5.2). Text of any
// other form may be anything, so it is not shown.
func (e Endpoint) reason(body []byte) string {
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		return ""
	}
	if said.Description != "" {
		said.Error += ": " + said.Description
	}
	return ": " + e.shortened(said.Error)
}

// parse reads the answer to a request that was granted.
func (e Endpoint) parse(body []byte) (Token, error) {
	var granted struct {
		Access  string      `json:"access_token"`
		ID      string      `json:"id_token"`
		Expires json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &granted) != nil {
		return Token{}, failed("token endpoint %s: the answer is not JSON with an access_token", e.URL.Host)
	}
	if granted.Access == "" {
		granted.Access = granted.ID // as Kafka does
	}
	if granted.Access == "" {
		return Token{}, failed("token endpoint %s: the answer has no access_token", e.URL.Host)
	}
	now := time.Now()
	var lifetime time.Duration
	if s, err := granted.Expires.Float64(); err == nil {
		lifetime = max(0, seconds(s).Sub(time.Unix(0, 0)))
	}
	token, err := parseToken(granted.Access, now, lifetime)
	if err != nil {
		return token, failed("token endpoint %s: the token is of no use: %v", e.URL.Host, err)
	}
	return token, nil
}

func (e Endpoint) shortened(text string) string {
	return shortened(text, e.ClientSecret, url.QueryEscape(e.ClientSecret))
}

// hide replaces secrets in a text.
func hide(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[hidden]")
		}
	}
	return text
}
