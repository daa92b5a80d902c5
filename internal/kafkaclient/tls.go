package kafkaclient

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"klink/internal/kafkaclient/store"
)

// liveTLS returns the TLS configuration of p, with klink's own certificate if there is one; nil if
// security.protocol is without SSL. Each call of the function returns the configuration as the
// files are then: see [live]. The server name is empty: dialers set it per broker. Stores are PEM,
// JKS or PKCS #12 files, or inline PEM as in Kafka's PEM stores (KIP-651). The names of librdkafka
// (ssl.ca.location, ssl.certificate.location, ssl.key.location) work too. Connections on which
// klink passes on its clients' requests use [Properties.ClientsTLS] instead.
func (p Properties) liveTLS(files Files) (func() *tls.Config, error) {
	return liveConfig(files, func(read reader) (*tls.Config, error) {
		config, err := p.trust(read)
		if config == nil || err != nil {
			return nil, err
		}
		if config.Certificates, err = p.clientCertificate(read); err != nil {
			return nil, err
		}
		return config, nil
	})
}

// trust returns the checks of brokers' certificates: a TLS configuration without the client's
// certificate. nil = no TLS.
func (p Properties) trust(read reader) (*tls.Config, error) {
	protocol, err := p.protocol()
	if err != nil {
		return nil, err
	}
	if protocol != protocolSSL && protocol != protocolSASLSSL {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := p.restrictTLS(config); err != nil {
		return nil, err
	}
	if config.RootCAs, err = p.roots(read); err != nil {
		return nil, err
	}
	if algorithm, ok := p["ssl.endpoint.identification.algorithm"]; ok {
		switch strings.ToLower(strings.TrimSpace(algorithm)) {
		case "https":
		case "":
			verifyChainOnly(config)
		default:
			return nil, fmt.Errorf("ssl.endpoint.identification.algorithm: %s is neither https nor empty", quoteWord(algorithm))
		}
	}
	return config, nil
}

// verifyChainOnly checks the broker's certificate against the roots, but not its host name.
func verifyChainOnly(config *tls.Config) {
	roots := config.RootCAs
	config.InsecureSkipVerify = true //nolint:gosec // VerifyConnection does all of it but for the host name
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the broker sent no certificate")
		}
		intermediates := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			intermediates.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
		return err
	}
}

// roots returns the trusted certificates; nil = the system's.
func (p Properties) roots(read reader) (*x509.CertPool, error) {
	const trustStore = "ssl.truststore"
	key, content, err := p.contentOf(read, "ssl.truststore.certificates", trustStore+".location", "ssl.ca.location")
	if err != nil {
		return nil, err
	}
	kind, err := p.kind(trustStore, key)
	if err != nil || key == "" {
		return nil, err
	}
	pool, err := store.Trust(content, kind, p[trustStore+".password"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return pool, nil
}

// clientCertificate returns the certificate that proves the client's identity (mutual TLS), none if
// none is configured.
func (p Properties) clientCertificate(read reader) ([]tls.Certificate, error) {
	const keyStore = "ssl.keystore"
	certKey, certs, err := p.contentOf(read, "ssl.keystore.certificate.chain", keyStore+".location", "ssl.certificate.location")
	if err != nil {
		return nil, err
	}
	kind, err := p.kind(keyStore, certKey)
	if err != nil || certKey == "" {
		return nil, err
	}
	keyKey, key, err := p.contentOf(read, "ssl.keystore.key", "ssl.key", "ssl.key.location")
	if err != nil {
		return nil, err
	}
	var cert tls.Certificate
	if keyKey == "" { // the store holds both
		if cert, err = store.Key(certs, kind, p[keyStore+".password"], p["ssl.key.password"]); err != nil {
			return nil, fmt.Errorf("%s: %w", certKey, err)
		}
	} else if cert, err = store.KeyPEM(certs, key, p["ssl.key.password"]); err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certKey, keyKey, err)
	}
	return []tls.Certificate{cert}, nil
}

// kind returns the format of the store whose content key gives; "" = the content tells. Only a
// store may be anything but PEM text.
func (p Properties) kind(name, key string) (string, error) {
	kind, err := store.Kind(p[name+".type"])
	switch {
	case err != nil:
		return "", fmt.Errorf("%s.type: %w", name, err)
	case key == "" || key == name+".location":
		return kind, nil
	case kind != "" && kind != store.PEM:
		return "", fmt.Errorf("%s.type is %s, but %s takes only PEM text: name the store with %s.location", name, kind, key, name)
	}
	return store.PEM, nil
}

// contentOf returns the first of the keys that is set, and its content; "" if none is set. If the
// key ends in "location", the content is that of the file.
func (p Properties) contentOf(read reader, keys ...string) (key string, content []byte, err error) {
	for _, key := range keys {
		value := strings.TrimSpace(p[key])
		if value == "" {
			continue
		}
		if !strings.HasSuffix(key, "location") {
			return key, inlinePEM(value), nil
		}
		content, err := read(value)
		if err != nil {
			return key, nil, fmt.Errorf("%s: %w", key, err)
		}
		return key, content, nil
	}
	return "", nil, nil
}

// inlinePEM restores the line breaks of PEM text in a single line of a properties file. Kafka's own
// parser (DefaultSslEngineFactory) accepts any white space between the parts.
func inlinePEM(s string) []byte {
	if block, _ := pem.Decode([]byte(s)); block != nil {
		return []byte(s)
	}
	s = strings.ReplaceAll(s, `\n`, "\n")
	var b strings.Builder
	for s != "" {
		begin := strings.Index(s, "-----BEGIN ")
		if begin < 0 {
			break
		}
		headEnd := strings.Index(s[begin+11:], "-----")
		if headEnd < 0 {
			break
		}
		head := s[begin : begin+11+headEnd+5]
		s = s[begin+len(head):]
		end := strings.Index(s, "-----END ")
		if end < 0 {
			break
		}
		body := strings.Join(strings.Fields(s[:end]), "\n")
		tailEnd := strings.Index(s[end+9:], "-----")
		if tailEnd < 0 {
			break
		}
		tail := s[end : end+9+tailEnd+5]
		s = s[end+len(tail):]
		fmt.Fprintf(&b, "%s\n%s\n%s\n", head, body, tail)
	}
	return []byte(b.String())
}
