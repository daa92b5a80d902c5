package kafkaclient

import (
	"crypto/tls"
	"errors"
	"strings"
)

// ErrCertificateAsked fails a TLS handshake of [Properties.ClientsTLS]: the broker has asked for a
// certificate where nothing but a certificate could tell one client from another.
var ErrCertificateAsked = errors.New("the broker asks clients for a certificate (ssl.client.auth), " +
	"and klink has none that it may show for its clients")

// ClientsTLS is the TLS configuration for connections on which klink passes on what its own clients
// say; nil when security.protocol is without SSL. It checks brokers as [Properties.TLS] does: trust
// store, host name, versions. It has no certificate, for with klink's own every client would be
// klink at the brokers.
//
// A broker with SASL learns from the login who a client is, so a question for a certificate is
// answered with none. Without SASL it fails the handshake with [ErrCertificateAsked]. Each
// connection sees to that by itself, whichever broker it leads to.
func (p Properties) ClientsTLS() (*tls.Config, error) {
	config, err := p.trust(operatorFiles)
	if config == nil || err != nil {
		return nil, err
	}
	login, err := p.SASL()
	if err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if !login {
			return nil, ErrCertificateAsked
		}
		return new(tls.Certificate), nil
	}
	return config, nil
}

// SASL says whether security.protocol has clients log in.
func (p Properties) SASL() (bool, error) {
	protocol, err := p.protocol()
	return strings.HasPrefix(protocol, "SASL_"), err
}

// HasKeyStore says whether [Properties.TLS] has a certificate.
func (p Properties) HasKeyStore() (bool, error) {
	config, err := p.TLS()
	return config != nil && len(config.Certificates) > 0, err
}
