package kafkaclient

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// TLS returns the TLS configuration of p, nil if security.protocol is without SSL. The server name
// is empty: dialers set it per broker. Certificates come from PEM files, or inline as in Kafka's
// PEM stores (KIP-651). The names of librdkafka (ssl.ca.location, ssl.certificate.location,
// ssl.key.location) work too. Properties may name any file. The configuration includes klink's own
// certificate if there is one. Connections on which klink passes on its clients' requests use
// [Properties.ClientsTLS] instead.
func (p Properties) TLS() (*tls.Config, error) { return p.tls(operatorFiles) }

func (p Properties) tls(files Files) (*tls.Config, error) {
	config, err := p.trust(files)
	if config == nil || err != nil {
		return nil, err
	}
	if config.Certificates, err = p.clientCertificate(files); err != nil {
		return nil, err
	}
	return config, nil
}

// trust returns the checks of brokers' certificates: a TLS configuration without the client's
// certificate. nil = no TLS.
func (p Properties) trust(files Files) (*tls.Config, error) {
	protocol, err := p.protocol()
	if err != nil {
		return nil, err
	}
	if protocol != protocolSSL && protocol != protocolSASLSSL {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if config.RootCAs, err = p.roots(files); err != nil {
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
func (p Properties) roots(files Files) (*x509.CertPool, error) {
	if err := p.storeType("ssl.truststore", "keytool -exportcert -rfc -keystore STORE -alias ALIAS > ca.pem"); err != nil {
		return nil, err
	}
	key, text, err := p.pemOf(files, "ssl.truststore.certificates", "ssl.truststore.location", "ssl.ca.location")
	if err != nil || key == "" {
		return nil, err
	}
	if err := notPEM(key, text, "keytool -exportcert -rfc -keystore STORE -alias ALIAS > ca.pem"); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no valid PEM certificate in it", key)
	}
	return pool, nil
}

// clientCertificate returns the certificate that proves the client's identity (mutual TLS), none if
// none is configured.
func (p Properties) clientCertificate(files Files) ([]tls.Certificate, error) {
	const convert = "openssl pkcs12 -in STORE.p12 -nodes -out client.pem"
	if err := p.storeType("ssl.keystore", convert); err != nil {
		return nil, err
	}
	certKey, certs, err := p.pemOf(files, "ssl.keystore.certificate.chain", "ssl.keystore.location", "ssl.certificate.location")
	if err != nil || certKey == "" {
		return nil, err
	}
	if err := notPEM(certKey, certs, convert); err != nil {
		return nil, err
	}
	keyKey, key, err := p.pemOf(files, "ssl.keystore.key", "ssl.key", "ssl.key.location")
	if err != nil {
		return nil, err
	}
	if keyKey == "" { // a PEM key store holds both
		keyKey, key = certKey, certs
	}
	if bytes.Contains(key, []byte("BEGIN ENCRYPTED")) || bytes.Contains(key, []byte("4,ENCRYPTED")) {
		return nil, fmt.Errorf("%s: an encrypted private key is not supported: decrypt it with `openssl pkey -in KEY -out key.pem`", keyKey)
	}
	cert, err := tls.X509KeyPair(certs, key)
	if err != nil {
		// X509KeyPair's error mentions block types only, no content.
		return nil, fmt.Errorf("%s and %s: %w", certKey, keyKey, err)
	}
	return []tls.Certificate{cert}, nil
}

// storeType refuses stores that only Java reads.
func (p Properties) storeType(store, convert string) error {
	switch t := strings.ToUpper(strings.TrimSpace(p[store+".type"])); t {
	case "", "PEM":
		return nil
	case "JKS", "PKCS12":
		return fmt.Errorf("%s.type: %s is not supported: convert the store to PEM (`%s`) and set %s.type=PEM", store, t, convert, store)
	default:
		return fmt.Errorf("%s.type: %s is not supported: want PEM", store, quoteWord(t))
	}
}

// pemOf returns the first of the keys that is set, and its PEM text; "" if none is set. If the key
// ends in "location", the text comes from that file.
func (p Properties) pemOf(files Files, keys ...string) (key string, text []byte, err error) {
	for _, key := range keys {
		value := strings.TrimSpace(p[key])
		if value == "" {
			continue
		}
		if !strings.HasSuffix(key, "location") {
			return key, inlinePEM(value), nil
		}
		text, err := files.read(value)
		if err != nil {
			return key, nil, fmt.Errorf("%s: %w", key, err)
		}
		return key, text, nil
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

// notPEM returns an error that says how to convert a store that is not PEM text.
func notPEM(key string, text []byte, convert string) error {
	switch {
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return nil
	case bytes.HasPrefix(text, []byte{0xfe, 0xed, 0xfe, 0xed}), bytes.HasPrefix(text, []byte{0x30, 0x82}):
		return fmt.Errorf("%s: this is a JKS or PKCS12 store, which is not supported: convert it to PEM (`%s`)", key, convert)
	default:
		return fmt.Errorf("%s: no PEM text in it", key)
	}
}
