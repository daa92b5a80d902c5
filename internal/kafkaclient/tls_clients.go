package kafkaclient

import (
	"crypto/tls"
	"errors"
	"strings"
)

// ErrCertificateAsked fails a TLS handshake of [Properties.ClientsTLS]: the broker asked for a
// client certificate, and without SASL it would know clients by nothing else.
var ErrCertificateAsked = errors.New("the broker asks clients for a certificate (ssl.client.auth), " +
	"and klink has none to present for its clients")

// ClientsTLS returns the TLS configuration for connections on which klink passes on its clients'
// requests; nil if security.protocol is without SSL. Each call of the function returns the
// configuration as the trust store is then: ask it before each connection. It checks brokers as
// klink's own connections do: trust store, host name, versions. It has no certificate: with klink's
// own, brokers would take every client for klink.
//
// With SASL, a broker learns from the login who a client is. So if the broker asks for a
// certificate, the connection sends none. Without SASL, such a question fails the handshake with
// [ErrCertificateAsked]. Each connection checks this by itself, whichever broker it leads to.
func (p Properties) ClientsTLS() (func() *tls.Config, error) {
	login, err := p.SASL()
	if err != nil {
		return nil, err
	}
	return liveConfig(operatorFiles, func(read reader) (*tls.Config, error) {
		config, err := p.trust(read)
		if config == nil || err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if !login {
				return nil, ErrCertificateAsked
			}
			return new(tls.Certificate), nil
		}
		return config, nil
	})
}

// SASL reports whether clients log in with SASL under security.protocol.
func (p Properties) SASL() (bool, error) {
	protocol, err := p.protocol()
	return strings.HasPrefix(protocol, "SASL_"), err
}

// HasKeyStore reports whether klink's own connections have a certificate.
func (p Properties) HasKeyStore() (bool, error) {
	config, err := p.liveTLS(operatorFiles)
	return config != nil && len(config().Certificates) > 0, err
}
