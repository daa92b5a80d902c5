package kafkaclient

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"klink/internal/kafkaclient/oauth"

	"github.com/twmb/franz-go/pkg/sasl"
)

// The configs of Java clients for OAUTHBEARER.
const (
	keyTokenEndpoint   = "sasl.oauthbearer.token.endpoint.url"
	keyTokenID         = "sasl.oauthbearer.client.credentials.client.id"
	keyTokenSecret     = "sasl.oauthbearer.client.credentials.client.secret"
	keyTokenScope      = "sasl.oauthbearer.scope"
	keyTokenEncode     = "sasl.oauthbearer.header.urlencode"
	keyTokenRetriever  = "sasl.oauthbearer.jwt.retriever.class"
	keyTokenAssertions = "sasl.oauthbearer.assertion."
	keyLoginHandler    = "sasl.login.callback.handler.class"
	keyLoginConnect    = "sasl.login.connect.timeout.ms"
	keyLoginRead       = "sasl.login.read.timeout.ms"
	keyLoginRetry      = "sasl.login.retry.backoff.ms"
	keyLoginRetryMax   = "sasl.login.retry.backoff.max.ms"
	keyRefreshFactor   = "sasl.login.refresh.window.factor"
	keyRefreshJitter   = "sasl.login.refresh.window.jitter"
	keyRefreshPeriod   = "sasl.login.refresh.min.period.seconds"
	keyRefreshBuffer   = "sasl.login.refresh.buffer.seconds"
)

const (
	oauthModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
	// extensionOption begins the options of the login module that are SASL extensions.
	extensionOption = "extension_"
	// loginTimeout bounds connecting to a token endpoint, and its answer, where Kafka sets no limit.
	loginTimeout = 10 * time.Second
)

// tokenHandlers are Kafka's login callback handlers that get tokens from an endpoint or a file.
var tokenHandlers = []string{
	"org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
	"org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
}

// tokenRetrievers are the classes that do what these handlers do without one.
var tokenRetrievers = []string{
	"org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
	"org.apache.kafka.common.security.oauthbearer.ClientCredentialsJwtRetriever",
	"org.apache.kafka.common.security.oauthbearer.FileJwtRetriever",
}

// oauthBearer returns the mechanism OAUTHBEARER. A handler is not needed if there is an endpoint:
// it can only be meant for one.
func (p Properties) oauthBearer(files Files, login Login) (sasl.Mechanism, error) {
	if err := login.module(mechanismOAuthBearer, oauthModule); err != nil {
		return nil, err
	}
	if err := p.refuseGrants(); err != nil {
		return nil, err
	}
	policy, err := p.tokenPolicy()
	if err != nil {
		return nil, err
	}
	location := strings.TrimSpace(p[keyTokenEndpoint])
	if location == "" {
		if handler := strings.TrimSpace(p[keyLoginHandler]); handler != "" {
			return nil, fmt.Errorf("%s: must be set with %s", keyTokenEndpoint, keyLoginHandler)
		}
		fetch, err := oauth.Unsecured(login.Options)
		if err != nil {
			return nil, fmt.Errorf("%s is not set, and sasl.jaas.config: %w", keyTokenEndpoint, err)
		}
		return newOAuthBearer(fetch, policy, login, oauth.UnsecuredExtension)
	}
	address, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("%s: its value is not a URL", keyTokenEndpoint)
	}
	var fetch oauth.Fetch
	if strings.EqualFold(address.Scheme, "file") {
		fetch, err = tokenFile(files, address)
	} else {
		fetch, err = p.tokenEndpoint(files, login, address)
	}
	if err != nil {
		return nil, err
	}
	return newOAuthBearer(fetch, policy, login, extensionOption)
}

func newOAuthBearer(fetch oauth.Fetch, policy oauth.Policy, login Login, extension string) (sasl.Mechanism, error) {
	extensions := map[string]string{}
	for _, option := range slices.Sorted(maps.Keys(login.Options)) {
		name, ok := strings.CutPrefix(option, extension)
		if !ok {
			continue
		}
		if err := oauth.CheckExtension(name, login.Options[option]); err != nil {
			return nil, fmt.Errorf("sasl.jaas.config: option %.80s: %w", option, err)
		}
		extensions[name] = login.Options[option]
	}
	return oauth.New(fetch, policy, extensions), nil
}

// refuseGrants refuses ways to get a token that klink does not have.
func (p Properties) refuseGrants() error {
	if handler := strings.TrimSpace(p[keyLoginHandler]); handler != "" && !slices.Contains(tokenHandlers, handler) {
		advice := "want " + tokenHandlers[0]
		switch {
		case strings.HasPrefix(handler, "io.strimzi."):
			advice += fmt.Sprintf(", %s, and the options clientId and clientSecret of the login module in place of oauth.*", keyTokenEndpoint)
		case strings.HasPrefix(handler, "software.amazon.msk."):
			advice = "use sasl.mechanism AWS_MSK_IAM"
		}
		return fmt.Errorf("%s: klink does not have this handler: %s", keyLoginHandler, advice)
	}
	if class := strings.TrimSpace(p[keyTokenRetriever]); class != "" && !slices.Contains(tokenRetrievers, class) {
		return fmt.Errorf("%s: klink gets tokens with the grant client_credentials or from a file only: want %s", keyTokenRetriever, tokenRetrievers[0])
	}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if strings.HasPrefix(key, keyTokenAssertions) && p[key] != "" {
			return fmt.Errorf("%.80s: klink does not support assertions (jwt-bearer): use the grant client_credentials, or a token file", key)
		}
	}
	return nil
}

// tokenPath returns the path of the file that access tokens come from; empty if they come from
// elsewhere.
func (p Properties) tokenPath() string {
	address, err := url.Parse(strings.TrimSpace(p[keyTokenEndpoint]))
	if err != nil || !strings.EqualFold(address.Scheme, "file") {
		return ""
	}
	return address.Path
}

func tokenFile(files Files, address *url.URL) (oauth.Fetch, error) {
	if address.Host != "" && address.Host != "localhost" || !strings.HasPrefix(address.Path, "/") {
		return nil, fmt.Errorf("%s: a file needs an absolute path, as in file:///run/secrets/token", keyTokenEndpoint)
	}
	read := func() ([]byte, error) {
		text, err := files.read(address.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyTokenEndpoint, err)
		}
		return text, nil
	}
	// A file that cannot be read now is a wrong config; later it may be being rewritten.
	if _, err := read(); err != nil {
		return nil, err
	}
	return oauth.FromFile(read), nil
}

func (p Properties) tokenEndpoint(files Files, login Login, address *url.URL) (oauth.Fetch, error) {
	if err := p.checkEndpoint(files, address); err != nil {
		return nil, err
	}
	e := oauth.Endpoint{URL: address}
	for _, o := range []struct {
		to          *string
		key, option string
	}{{&e.ClientID, keyTokenID, "clientId"}, {&e.ClientSecret, keyTokenSecret, "clientSecret"}, {&e.Scope, keyTokenScope, "scope"}} {
		value, ok := p[o.key]
		if !ok {
			value = login.Options[o.option]
		}
		*o.to = value
		if value == "" && o.to != &e.Scope {
			return nil, fmt.Errorf("%s, or option %s in sasl.jaas.config: must be set with %s", o.key, o.option, keyTokenEndpoint)
		}
	}
	switch encode := strings.ToLower(strings.TrimSpace(p[keyTokenEncode])); encode {
	case "true":
		e.EncodeHeader = true
	case "", "false":
	default:
		return nil, fmt.Errorf("%s: want true or false", keyTokenEncode)
	}
	var err error
	if e.Connect, err = p.duration(keyLoginConnect, time.Millisecond, loginTimeout); err != nil {
		return nil, err
	}
	if e.Read, err = p.duration(keyLoginRead, time.Millisecond, loginTimeout); err != nil {
		return nil, err
	}
	if e.TLS, err = endpointTLS(files, login); err != nil {
		return nil, fmt.Errorf("sasl.jaas.config: option %w", err)
	}
	return e.Fetch(), nil
}

// checkEndpoint refuses token endpoints to which the client secret must not go.
func (p Properties) checkEndpoint(files Files, address *url.URL) error {
	protocol, err := p.protocol()
	if err != nil {
		return err
	}
	switch {
	case address.Host == "" || address.User != nil || address.Fragment != "":
		return fmt.Errorf("%s: want https://HOST/PATH or file:///PATH, without a user", keyTokenEndpoint)
	case address.Scheme == "https":
	case address.Scheme != "http":
		return fmt.Errorf("%s: %s is neither https nor file", keyTokenEndpoint, quoteWord(address.Scheme))
	case protocol != protocolSASLPlaintext && !loopbackHost(address.Hostname()):
		return fmt.Errorf("%s: over http the client secret would cross the network unencrypted: use https", keyTokenEndpoint)
	}
	return files.allowEndpoint(address)
}

// loopbackHost reports whether a host is reached without a network.
func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// endpointTLS returns the checks of a token endpoint's certificate. As in a Java client they come
// from the options of the login module, not from the client's own ssl.* configs: the identity
// provider and the brokers have different authorities as a rule.
func endpointTLS(files Files, login Login) (func() *tls.Config, error) {
	trust := Properties{"security.protocol": protocolSSL}
	for option, value := range login.Options {
		// The name of the host is checked in any case, as Java's HTTP client does.
		if strings.HasPrefix(option, "ssl.") && option != "ssl.endpoint.identification.algorithm" {
			trust[option] = value
		}
	}
	return trust.liveTLS(files)
}

// tokenPolicy reads when tokens are refreshed. Defaults and bounds are Kafka's.
func (p Properties) tokenPolicy() (policy oauth.Policy, err error) {
	for _, n := range []struct {
		key                string
		to                 *float64
		low, high, without float64
	}{
		{keyRefreshFactor, &policy.WindowFactor, 0.5, 1, 0.8},
		{keyRefreshJitter, &policy.WindowJitter, 0, 0.25, 0.05},
	} {
		*n.to = n.without
		if s := strings.TrimSpace(p[n.key]); s != "" {
			if *n.to, err = strconv.ParseFloat(s, 64); err != nil || !(*n.to >= n.low && *n.to <= n.high) {
				return policy, fmt.Errorf("%s: want a number from %v to %v", n.key, n.low, n.high)
			}
		}
	}
	for _, d := range []struct {
		key           string
		to            *time.Duration
		unit, without time.Duration
	}{
		{keyRefreshPeriod, &policy.MinPeriod, time.Second, time.Minute},
		{keyRefreshBuffer, &policy.Buffer, time.Second, 5 * time.Minute},
		{keyLoginRetry, &policy.RetryBackoff, time.Millisecond, 100 * time.Millisecond},
		{keyLoginRetryMax, &policy.RetryBackoffMax, time.Millisecond, 10 * time.Second},
	} {
		if *d.to, err = p.duration(d.key, d.unit, d.without); err != nil {
			return policy, err
		}
	}
	return policy, nil
}

// duration reads a time in a unit, at most an hour; without is for a key that is not set.
func (p Properties) duration(key string, unit, without time.Duration) (time.Duration, error) {
	s := strings.TrimSpace(p[key])
	if s == "" {
		return without, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 || n > int64(time.Hour/unit) {
		return 0, fmt.Errorf("%s: want a whole number from 0 to %d", key, time.Hour/unit)
	}
	if n == 0 && unit == time.Millisecond {
		return unit, nil // a time-out of 0 would be none
	}
	return time.Duration(n) * unit, nil
}
