package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"klink/admin/linkconfig"
	"klink/internal/config"
	"klink/internal/kafkaclient"
)

// plaintextWarnings says where clients' passwords would cross the network unencrypted. klink passes
// clients' logins on; its own login with SASL shows that the destination asks for logins.
func plaintextWarnings(cfg *config.Serve, destination kafkaclient.Properties) (warnings []string) {
	protocol := strings.ToUpper(strings.TrimSpace(destination["security.protocol"]))
	if !strings.HasPrefix(protocol, "SASL_") {
		return nil
	}
	for _, l := range cfg.Listeners {
		if l.TLSCertFile == "" && !loopback(l.Listen) && !cfg.Terminates() {
			warnings = append(warnings, fmt.Sprintf("clients send their passwords to klink unencrypted: set --tls-cert-file and --tls-key-file, or set --listen %s to a loopback address", l.Listen))
		}
	}
	// Properties.Seeds has already refused invalid addresses.
	seeds, _ := destination.Seeds()
	if protocol == "SASL_PLAINTEXT" && slices.ContainsFunc(seeds, func(s string) bool { return !loopback(s) }) {
		warnings = append(warnings, "klink sends the passwords of clients, and its own, to the destination unencrypted: use a broker listener with SASL_SSL")
	}
	return warnings
}

// loopback reports whether an address, HOST:PORT, is reached without a network. A name other than
// localhost may lead anywhere.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// secretsWatch warns, once, before secrets go to klink unencrypted over a network. It is a hook of
// the client, because only an open connection shows where it leads: neither a host name nor the
// first of several addresses does. The hook runs before any request is sent on the connection.
type secretsWatch struct {
	out     io.Writer
	secrets []string // names of configs
	once    sync.Once
}

var _ kgo.HookBrokerConnect = (*secretsWatch)(nil)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (w *secretsWatch) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	if err != nil || conn == nil || loopback(conn.RemoteAddr().String()) {
		return
	}
	w.once.Do(func() {
		fmt.Fprintf(w.out, "Warning: %s is sent to klink at %s unencrypted, so anyone who can listen on the network can read it. Run klink with --tls-cert-file, and use security.protocol SSL or SASL_SSL.\n",
			strings.Join(w.secrets, ", "), conn.RemoteAddr())
	})
}

// watchSecrets returns the client options that warn before secrets among link configs are sent
// unencrypted.
func (a *app) watchSecrets(configs map[string]string) ([]kgo.Opt, error) {
	var secrets []string
	for name := range configs {
		if c, known := linkconfig.Lookup(linkconfig.Name(name)); !known || c.Sensitive {
			secrets = append(secrets, name)
		}
	}
	p, err := a.properties()
	if err != nil || len(secrets) == 0 || strings.HasSuffix(strings.ToUpper(strings.TrimSpace(p["security.protocol"])), "SSL") {
		return nil, err
	}
	slices.Sort(secrets)
	return []kgo.Opt{kgo.WithHooks(&secretsWatch{out: a.err, secrets: secrets})}, nil
}
