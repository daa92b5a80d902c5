package config

import (
	"fmt"
	"slices"

	"klink/internal/principal"
)

// The values of Listener.SSLClientAuth.
const (
	ClientAuthNone      = "none"
	ClientAuthRequested = "requested"
	ClientAuthRequired  = "required"
)

// The values of Identity.Authentication.
const (
	AuthenticationPassThrough = "pass-through"
	AuthenticationTerminate   = "terminate"
)

// Identity are the settings about who clients are, and as whom klink logs in for them.
type Identity struct {
	SSLClientCAFile       string
	PrincipalMappingRules principal.Rules // nil = none are set
	Authentication        string          // pass-through or terminate
	CredentialMapFile     string
	SASLMechanisms        []string // of clients at klink
	SASLCredentialsFile   string
	OAuthJWKSURL          string
	OAuthAudiences        []string
	OAuthIssuer           string
	OAuthNameClaim        string
}

// Terminates reports whether klink itself authenticates clients with SASL.
func (i *Identity) Terminates() bool { return i.Authentication == AuthenticationTerminate }

// ByCertificate reports whether the certificate says who a client is.
func (c *Serve) ByCertificate() bool {
	return c.CredentialMapFile != "" && !c.Terminates() && c.asksCertificates()
}

// asksCertificates reports whether a listener asks clients for certificates.
func (c *Serve) asksCertificates() bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.SSLClientAuth != ClientAuthNone })
}

// checkIdentity finds contradictions between the settings of Identity, and others.
func (c *Serve) checkIdentity() error {
	scram := slices.ContainsFunc(c.SASLMechanisms, func(m string) bool { return m != "OAUTHBEARER" })
	bearer := slices.Contains(c.SASLMechanisms, "OAUTHBEARER")
	certificates, terminates := c.asksCertificates(), c.Terminates()
	for _, p := range []struct {
		wrong            bool
		setting, problem string
	}{
		{certificates && c.SSLClientCAFile == "", "ssl-client-auth", "needs --ssl-client-ca-file"},
		{!certificates && c.SSLClientCAFile != "", "ssl-client-ca-file", "needs --ssl-client-auth requested or required"},
		{terminates && c.CredentialMapFile == "", "authentication", "terminate needs --credential-map-file: klink never uses its own credentials for a client"},
		{c.CredentialMapFile != "" && !terminates && !certificates, "credential-map-file", "needs --authentication terminate, or --ssl-client-auth requested or required: otherwise clients log in at the brokers as themselves"},
		{c.PrincipalMappingRules != nil && !c.ByCertificate(), "ssl-principal-mapping-rules", "needs --ssl-client-auth and --credential-map-file without --authentication terminate: otherwise a client's principal is not its certificate's"},
		{!terminates && c.SASLCredentialsFile != "", "sasl-credentials-file", "needs --authentication terminate"},
		{!terminates && c.OAuthJWKSURL != "", "oauth-jwks-url", "needs --authentication terminate"},
		{terminates && scram && c.SASLCredentialsFile == "", "sasl-enabled-mechanisms", "PLAIN and SCRAM need --sasl-credentials-file"},
		{terminates && bearer && c.OAuthJWKSURL == "", "sasl-enabled-mechanisms", "OAUTHBEARER needs --oauth-jwks-url"},
		{terminates && !bearer && c.OAuthJWKSURL != "", "oauth-jwks-url", "needs OAUTHBEARER among --sasl-enabled-mechanisms"},
		{c.OAuthJWKSURL == "" && (len(c.OAuthAudiences) > 0 || c.OAuthIssuer != ""), "oauth-expected-audience", "and oauth-expected-issuer need --oauth-jwks-url"},
	} {
		if p.wrong {
			return &Error{Setting: p.setting, Problem: p.problem}
		}
	}
	return nil
}

// setRules takes rules in the syntax of ssl.principal.mapping.rules; empty = none.
func setRules(to *principal.Rules, s string) error {
	if s == "" {
		*to = nil
		return nil
	}
	rules, err := principal.ParseRules(s)
	if err == nil {
		*to = rules
	}
	return err
}

// setSomeOf takes a list of names.
func setSomeOf(to *[]string, s string, allowed ...string) error {
	list := splitList(s)
	if len(list) == 0 {
		return fmt.Errorf("want at least one of %q", allowed)
	}
	for _, name := range list {
		if err := setOneOf(new(string), name, allowed...); err != nil {
			return err
		}
	}
	*to = list
	return nil
}
