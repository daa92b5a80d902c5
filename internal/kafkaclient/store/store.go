package store

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The formats of stores, as in ssl.truststore.type and ssl.keystore.type.
const (
	PEM    = "PEM"
	JKS    = "JKS"
	PKCS12 = "PKCS12"
)

const (
	// maxKey bounds a private key, in bytes. An RSA key of 16384 bits has 9 KiB.
	maxKey = 16 << 10
	// maxRSA bounds the RSA keys of certificates, in bits: checking a signature takes time that
	// grows with the square of it.
	maxRSA = 16384
	// maxChain bounds the certificates that go with a key.
	maxChain = 16
	// maxPassword bounds passwords, in bytes. JKS hashes the password again for every 20 bytes of a
	// key.
	maxPassword = 4 << 10
)

var (
	errPassword     = errors.New("the password is wrong, or the store is damaged")
	errLongPassword = fmt.Errorf("the password is longer than %d bytes", maxPassword)
	errNoPassword   = errors.New("the store is encrypted")
	errKeyPassword  = errors.New("the private key in the store does not open: if it has a password of its own, set ssl.key.password")
	errDamaged      = errors.New("the store is damaged")
)

// Kind checks the value of ssl.truststore.type or ssl.keystore.type. "" means that the content of
// the store tells. As in Java, JKS and PKCS12 stand for each other: keytool has made PKCS #12 for
// years, and many such stores are called JKS.
func Kind(value string) (string, error) {
	kind := strings.ToUpper(strings.TrimSpace(value))
	if kind != "" && !slices.Contains([]string{PEM, JKS, PKCS12}, kind) {
		name := "this type"
		if len(kind) <= 20 && !strings.ContainsAny(kind, " \t=;'\"") {
			name = strconv.Quote(kind)
		}
		return "", fmt.Errorf("%s is not supported: want PEM, JKS or PKCS12 (convert the store with `keytool -importkeystore -deststoretype PKCS12`)", name)
	}
	return kind, nil
}

// Trust returns the certificates that a trust store trusts. kind is a result of [Kind].
//
// As in Java, these are the certificates that were imported as trusted, and those of the store's
// own keys. Of a PKCS #12 store without keys, in which none is marked as trusted for Java, they are
// all certificates: openssl makes such stores. Without a password nothing is checked about the
// store as a whole.
func Trust(content []byte, kind, password string) (*x509.CertPool, error) {
	if len(password) > maxPassword {
		return nil, errLongPassword
	}
	found, err := detect(content, kind)
	if err != nil {
		return nil, err
	}
	var trusted []*x509.Certificate
	switch found {
	case PEM:
		trusted, err = trustPEM(content)
	case JKS:
		trusted, err = trustJKS(content, password)
	default:
		trusted, err = trustPKCS12(content, password)
	}
	if errors.Is(err, errNoPassword) {
		err = fmt.Errorf("%w: set ssl.truststore.password", err)
	}
	if err != nil {
		return nil, err
	}
	if len(trusted) == 0 {
		return nil, errors.New("no trusted certificate in it")
	}
	pool := x509.NewCertPool()
	for _, c := range trusted {
		if err := bounded(c); err != nil {
			return nil, err
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// Key returns the private key of a key store, with its certificates. kind is a result of [Kind].
// keyPassword opens the key; "" = password does, as in Java. A store with several keys is refused:
// Java would choose one by what the broker asks for, and of those any.
func Key(content []byte, kind, password, keyPassword string) (tls.Certificate, error) {
	if len(password) > maxPassword || len(keyPassword) > maxPassword {
		return tls.Certificate{}, errLongPassword
	}
	found, err := detect(content, kind)
	if err != nil {
		return tls.Certificate{}, err
	}
	var key tls.Certificate
	switch found {
	case PEM:
		key, err = KeyPEM(content, content, keyPassword)
	case JKS:
		key, err = keyJKS(content, password, keyPassword)
	default:
		key, err = keyPKCS12(content, password, keyPassword)
	}
	if errors.Is(err, errNoPassword) {
		err = fmt.Errorf("%w: set ssl.keystore.password", err)
	}
	return key, err
}

// detect returns the format of a store by its content, and checks that it is of the kind that was
// set.
func detect(content []byte, kind string) (string, error) {
	found := ""
	switch {
	case bytes.HasPrefix(content, magicJKS):
		found = JKS
	case bytes.HasPrefix(content, magicJCEKS):
		return "", errors.New("this is a JCEKS store, which is not supported: convert it with `keytool -importkeystore -deststoretype PKCS12`")
	case isPKCS12(content):
		found = PKCS12
	case bytes.Contains(content, []byte("-----BEGIN ")):
		found = PEM
	case kind == PEM:
		return "", errors.New("no PEM text in it")
	default:
		return "", errors.New("this is neither PEM text nor a JKS or PKCS12 store in DER. " +
			"Other stores, BCFKS for one, are not supported: convert them with `keytool -importkeystore -deststoretype PKCS12`")
	}
	if kind != "" && (kind == PEM) != (found == PEM) {
		return "", fmt.Errorf("its type is set to %s, but this is %s", kind, map[string]string{PEM: "PEM text", JKS: "a JKS store", PKCS12: "a PKCS12 store"}[found])
	}
	return found, nil
}

// bounded refuses certificates with keys that make handshakes long.
func bounded(c *x509.Certificate) error {
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSA {
		return fmt.Errorf("a certificate has an RSA key of more than %d bits", maxRSA)
	}
	return nil
}

// parse reads certificates in DER.
func parse(ders ...[]byte) ([]*x509.Certificate, error) {
	certs := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("a certificate in it: %w", err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// pair joins a chain of certificates, the key's own first, and a private key in PKCS #8.
func pair(chain [][]byte, key []byte) (tls.Certificate, error) {
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return KeyPEM(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "")
}

// one is the error of a store in which there is not exactly one private key.
func one(aliases []string) error {
	if len(aliases) == 0 {
		return errors.New("no private key in it")
	}
	const shown = 5
	quoted := make([]string, 0, shown)
	for _, a := range aliases[:min(len(aliases), shown)] {
		quoted = append(quoted, strconv.Quote(a[:min(len(a), 40)]))
	}
	more := ""
	if len(aliases) > shown {
		more = ", ..."
	}
	return fmt.Errorf("%d private keys are in it (%s%s), and klink cannot know which to use: leave one in the store", len(aliases), strings.Join(quoted, ", "), more)
}
