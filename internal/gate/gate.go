// Package gate says who klink's clients are, where klink has to find that out itself, and as whom
// it logs in at brokers for them. A broker cannot see the certificate that a client shows to klink,
// nor use the password that a client proves to klink.
//
//	gate.go       Gate: the way in for a connection, and what happens when the map changes
//	tls.go        certificates of clients
//	login.go      klink as the server of a login (--authentication terminate)
//	versions.go   what klink answers to ApiVersions before a login
//	guest.go      the login at a broker for a client
//	session.go    what changes for the requests of such a client
//
// The rule: nobody gets anything by klink's own rights. A client gets the entry of its principal in
// the credential map, or is refused.
//
// Admit, LogIn and the work of decisions run on goroutines of connections, sessions on event loops.
// The only lock is that of the cache of versions, a leaf.
package gate

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"klink/internal/credentials"
	"klink/internal/follow"
	"klink/internal/principal"
	"klink/internal/saslserver"
	"klink/proxy"
)

// anonymous is the principal of a client that has shown nothing.
const anonymous = "User:ANONYMOUS"

// Config makes a Gate.
type Config struct {
	// Map has the credentials of clients.
	Map *credentials.Map
	// Rules make the name of a principal from the subject of a certificate.
	Rules principal.Rules
	// Server authenticates clients with SASL; nil = they are who their certificate says.
	Server *saslserver.Server
	// Versions asks a broker for its versions, as klink itself. Required with Server.
	Versions AskVersions
	// Links adds the link API to the versions that klink offers.
	Links bool
}

// Gate implements proxy.Gate.
type Gate struct {
	config   Config
	versions versions
}

// New returns a gate.
func New(config Config) *Gate { return &Gate{config: config, versions: versions{ask: config.Versions}} }

// Admit implements proxy.Gate.
func (g *Gate) Admit(ctx context.Context, a *proxy.Arrival) (proxy.Guest, error) {
	if g.config.Server != nil {
		return g.logIn(ctx, a)
	}
	who := anonymous
	if a.TLS != nil {
		var err error
		if who, err = g.Principal(*a.TLS); err != nil {
			return nil, err
		}
	}
	guest, err := g.guest(who, "")
	if err != nil {
		return nil, err
	}
	return guest, nil
}

// Principal returns the principal of the certificate that a client has shown.
func (g *Gate) Principal(state tls.ConnectionState) (string, error) {
	if len(state.PeerCertificates) == 0 {
		return anonymous, nil
	}
	subject, err := principal.Subject(state.PeerCertificates[0].RawSubject)
	if err != nil {
		return "", err
	}
	name, err := g.config.Rules.Name(subject)
	if err != nil {
		return "", fmt.Errorf("%q: %w", subject, err)
	}
	return "User:" + name, nil
}

// NoEntryError refuses a principal that is not in the credential map.
type NoEntryError struct{ Principal string }

func (e *NoEntryError) Error() string {
	return fmt.Sprintf("the credential map has no entry for %q", e.Principal)
}

// guest returns the guest of a principal, who has logged in with a mechanism; "" = otherwise.
func (g *Gate) guest(who, mechanism string) (*guest, error) {
	entry := g.config.Map.Lookup(who)
	if entry == nil {
		return nil, &NoEntryError{who}
	}
	return &guest{gate: g, principal: who, mechanism: mechanism, entry: entry}, nil
}

// Run looks for changes of the credential map until ctx ends. It calls expel whenever connections
// may have lost their entry.
func (g *Gate) Run(ctx context.Context, expel func()) {
	tick := time.NewTicker(follow.Interval)
	defer tick.Stop()
	var seen int64
	for {
		select {
		case <-tick.C:
			// Handshakes refresh the map, too.
			if now := g.config.Map.Refresh(); now != seen {
				seen = now
				expel()
			}
		case <-ctx.Done():
			return
		}
	}
}
