package gate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync/atomic"

	"klink/internal/follow"
)

// maxCA bounds the file of authorities in bytes.
const maxCA = 1 << 20

// AskCertificates makes a server configuration ask clients for certificates of the authorities in a
// file, which is followed. Without required a client may show none. check, which may be nil, may
// refuse a client in the handshake: its TLS library tells the client so, where a connection that is
// closed would tell it nothing.
//
// Sessions are not resumed: each connection shows its certificate, to the authorities of now.
func AskCertificates(config *tls.Config, caFile string, required bool, check func(tls.ConnectionState) error, log *slog.Logger) error {
	authorities, err := follow.Open(caFile, "ssl-client-ca-file", maxCA, log, func(text []byte, _ *x509.CertPool) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, errors.New("no PEM certificate in it")
		}
		return pool, nil
	})
	if err != nil {
		return err
	}
	config.SessionTicketsDisabled = true
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if required {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.VerifyConnection = check
	config.ClientCAs = authorities.Value()
	base := config.Clone()
	// Connections share a configuration, because each keeps its own alive.
	var current atomic.Pointer[tls.Config]
	current.Store(base)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		authorities.Refresh()
		if pool := authorities.Value(); pool != current.Load().ClientCAs {
			next := base.Clone()
			next.ClientCAs = pool
			current.Store(next)
		}
		return current.Load(), nil
	}
	return nil
}

// CheckCertificate refuses, in the handshake, a client whose principal is not in the credential
// map.
func (g *Gate) CheckCertificate(state tls.ConnectionState) error {
	who, err := g.Principal(state)
	if err != nil {
		return err
	}
	g.config.Map.Refresh()
	_, err = g.guest(who, "")
	return err
}
