package kafkaclient

import (
	"crypto/tls"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
)

// Credential is what it takes to be somebody at the brokers of a cluster.
type Credential struct {
	Mechanism sasl.Mechanism // nil = no SASL
	// TLS returns the configuration for the next connection, without a server name; nil = no TLS.
	TLS func() *tls.Config
}

// Credential returns the login of these properties, for connections on which klink passes on the
// requests of a client whom the properties stand for. Brokers are checked as on klink's own
// connections, and stores are read again when their files change.
// Without SASL and without a key store, a broker that asks for a certificate fails the handshake
// with [ErrCertificateAsked].
func (p Properties) Credential() (c Credential, err error) {
	if c.Mechanism, err = p.mechanism(operatorFiles); err != nil {
		return Credential{}, err
	}
	c.TLS, err = liveConfig(operatorFiles, func(read reader) (*tls.Config, error) {
		config, err := p.trust(read)
		if config == nil || err != nil {
			return nil, err
		}
		if config.Certificates, err = p.clientCertificate(read); err != nil {
			return nil, err
		}
		if len(config.Certificates) == 0 && c.Mechanism == nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, ErrCertificateAsked }
		}
		return config, nil
	})
	if err != nil {
		return Credential{}, err
	}
	return c, nil
}

// ProvesIdentity reports whether a property is a part of somebody's login: a key of SASL, or of a
// client's certificate.
func ProvesIdentity(key string) bool {
	return strings.HasPrefix(key, "sasl.") || strings.HasPrefix(key, "ssl.key") || strings.HasPrefix(key, "ssl.certificate.")
}

// Nobody returns the properties without those of a login: how to reach and check the brokers.
func (p Properties) Nobody() Properties {
	nobody := Properties{}
	for key, value := range p {
		if !ProvesIdentity(key) {
			nobody[key] = value
		}
	}
	return nobody
}
