package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/config"
	"klink/internal/credentials"
	"klink/internal/follow"
	"klink/internal/gate"
	"klink/internal/kafkaclient"
	"klink/internal/saslserver"
	"klink/internal/saslserver/users"
	"klink/proxy"
	"klink/router"
)

// identity is who finds out who clients are, where the brokers do not; nothing in it if they do.
type identity struct {
	gate   *gate.Gate
	client *kgo.Client // asks brokers for their versions; nil without --authentication terminate
}

// newIdentity makes what the settings ask for, and adds the question for certificates to the
// listeners with TLS. files are those that links may use.
func newIdentity(cfg *config.Serve, destination kafkaclient.Properties, listeners []proxy.Listener, files kafkaclient.Files, log *slog.Logger) (id identity, err error) {
	var check func(tls.ConnectionState) error
	if cfg.CredentialMapFile != "" {
		c := gate.Config{Rules: cfg.PrincipalMappingRules, Links: cfg.LinkAdmin != string(router.LinkAdminOff)}
		if c.Map, err = credentials.Open(cfg.CredentialMapFile, destination, files.Hold, log); err != nil {
			return identity{}, fmt.Errorf("credential-map-file: %w", err)
		}
		if cfg.Terminates() {
			if c.Server, err = saslServer(cfg, log); err != nil {
				return identity{}, err
			}
			if id.client, err = versionsClient(destination); err != nil {
				return identity{}, fmt.Errorf("destination-config: %w", err)
			}
			c.Versions = versionsOf(id.client)
		}
		id.gate = gate.New(c)
		if cfg.ByCertificate() {
			check = id.gate.CheckCertificate
		}
	}
	for i, l := range listeners {
		auth := cfg.Listeners[i].SSLClientAuth
		if auth == config.ClientAuthNone {
			continue
		}
		if err := gate.AskCertificates(l.TLS, cfg.SSLClientCAFile, auth == config.ClientAuthRequired, check, log); err != nil {
			return identity{}, err
		}
	}
	return id, nil
}

// proxyGate returns the gate for the proxy; nil = there is none.
func (id identity) proxyGate() proxy.Gate {
	if id.gate == nil {
		return nil
	}
	return id.gate
}

func (id identity) close() {
	if id.client != nil {
		id.client.Close()
	}
}

// saslServer makes klink the server of clients' logins.
func saslServer(cfg *config.Serve, log *slog.Logger) (*saslserver.Server, error) {
	var table *follow.File[*users.Table]
	var tokens *saslserver.Tokens
	var err error
	if cfg.SASLCredentialsFile != "" {
		if table, err = users.Follow(cfg.SASLCredentialsFile, log); err != nil {
			return nil, fmt.Errorf("sasl-credentials-file: %w", err)
		}
	}
	if cfg.OAuthJWKSURL != "" {
		keys, err := saslserver.OpenKeys(cfg.OAuthJWKSURL, http.DefaultClient, log)
		if err != nil {
			return nil, fmt.Errorf("oauth-jwks-url: %w", err)
		}
		tokens = saslserver.NewTokens(saslserver.TokenConfig{Audiences: cfg.OAuthAudiences, Issuer: cfg.OAuthIssuer, NameClaim: cfg.OAuthNameClaim}, keys)
	}
	server, err := saslserver.New(cfg.SASLMechanisms, table, tokens)
	if err != nil {
		return nil, fmt.Errorf("sasl-enabled-mechanisms: %w", err)
	}
	return server, nil
}

// versionsClient returns a client that asks brokers for nothing but their versions.
func versionsClient(destination kafkaclient.Properties) (*kgo.Client, error) {
	options, err := destination.Options()
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(options...)
}

// versionsOf asks a broker for its versions, or any broker where the client came to the bootstrap
// port.
func versionsOf(client *kgo.Client) gate.AskVersions {
	return func(ctx context.Context, broker int32) (*kmsg.ApiVersionsResponse, error) {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", release
		if broker == router.BootstrapID {
			return req.RequestWith(ctx, client)
		}
		resp, err := client.Broker(int(broker)).Request(ctx, req)
		if err != nil {
			return nil, err
		}
		return resp.(*kmsg.ApiVersionsResponse), nil
	}
}

// identityWarnings say what the settings leave open.
func identityWarnings(cfg *config.Serve) (warnings []string) {
	if cfg.Terminates() && slices.Contains(cfg.SASLMechanisms, saslserver.OAuthBearer) && len(cfg.OAuthAudiences) == 0 {
		warnings = append(warnings, "klink takes access tokens that were issued for others than it: set --oauth-expected-audience")
	}
	for _, l := range cfg.Listeners {
		if cfg.Terminates() && l.TLSCertFile == "" && !loopback(l.Listen) {
			warnings = append(warnings, fmt.Sprintf("clients log in at klink without TLS: set --tls-cert-file and --tls-key-file, or set --listen %s to a loopback address", l.Listen))
		}
	}
	return warnings
}
