package kafkatest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// certificates are an authority made for one cluster, a server certificate for 127.0.0.1 and
// localhost, and client certificates by principal.
type certificates struct {
	dir      string
	caFile   string // PEM
	certFile string // PEM, certificate
	keyFile  string // PEM, PKCS #8
	keystore string // PEM, key and certificate in one, as Kafka wants it

	mu        sync.Mutex
	authority authority                    // signs
	trusted   []authority                  // are in caFile
	clients   map[string]clientCertificate // by common name
	renewals  int
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// clientCertificate names a PEM file with a private key and a certificate, and holds both.
type clientCertificate struct {
	file string
	pair tls.Certificate
}

func newCertificates(dir string) (*certificates, error) {
	c := &certificates{
		dir: dir, clients: map[string]clientCertificate{},
		caFile:   filepath.Join(dir, "ca.pem"),
		certFile: filepath.Join(dir, "server.pem"),
		keyFile:  filepath.Join(dir, "server.key"),
		keystore: filepath.Join(dir, "keystore.pem"),
	}
	if err := c.generate(); err != nil {
		return nil, fmt.Errorf("kafkatest: certificates: %w", err)
	}
	return c, nil
}

func (c *certificates) generate() error {
	made, err := newAuthority("kafkatest authority")
	if err != nil {
		return err
	}
	c.authority = made
	if err := c.trust(made); err != nil {
		return err
	}
	return c.serve(c.keystore)
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	ca, err = x509.ParseCertificate(der)
	return authority{ca, key}, err
}

// trust writes caFile.
func (c *certificates) trust(authorities ...authority) error {
	var text []byte
	for _, a := range authorities {
		text = append(text, certificatePEM(a.cert.Raw)...)
	}
	c.trusted = authorities
	return replace(c.caFile, text)
}

// serve makes a certificate for the brokers, and writes it to certFile and keyFile, and to a key
// store.
func (c *certificates) serve(keystore string) error {
	certPEM, keyPEM, err := c.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{
		c.certFile: certPEM,
		c.keyFile:  keyPEM,
		keystore:   append(append([]byte{}, keyPEM...), certPEM...),
	} {
		if err := replace(path, data); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a file in the place of another.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// sign makes a key and has the authority sign a certificate for it; both are returned as PEM.
func (c *certificates) sign(leaf *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if certPEM, err = c.authority.sign(leaf, key.Public()); err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// sign signs a certificate for a key; it is returned as PEM.
func (a authority) sign(leaf *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	leaf.NotBefore, leaf.NotAfter, leaf.KeyUsage = a.cert.NotBefore, a.cert.NotAfter, x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return certificatePEM(der), nil
}

// client returns the certificate of a user, and makes it on the first call.
func (c *certificates) client(user string) (clientCertificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.clients[user]; ok {
		return known, nil
	}
	return c.issue(user, filepath.Join(c.dir, fmt.Sprintf("client-%d.pem", len(c.clients))))
}

// issue makes the certificate of a user, and writes it to a file.
func (c *certificates) issue(user, file string) (clientCertificate, error) {
	certPEM, keyPEM, err := c.sign(clientTemplate(user))
	if err != nil {
		return clientCertificate{}, err
	}
	made := clientCertificate{file: file}
	if made.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return clientCertificate{}, err
	}
	if err := replace(made.file, append(keyPEM, certPEM...)); err != nil {
		return clientCertificate{}, err
	}
	c.clients[user] = made
	return made, nil
}

func clientTemplate(user string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: user},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// brokerConfig returns the configs of one of a broker's listeners. auth is its ssl.client.auth,
// empty = none.
func (c *certificates) brokerConfig(listener, auth string) map[string]string {
	prefix := "listener.name." + strings.ToLower(listener) + ".ssl."
	conf := map[string]string{
		prefix + "keystore.type":     "PEM",
		prefix + "keystore.location": c.keystore,
		prefix + "client.auth":       "none",
	}
	if auth != "" {
		conf[prefix+"client.auth"] = auth
		conf[prefix+"truststore.type"] = "PEM"
		conf[prefix+"truststore.location"] = c.caFile
	}
	return conf
}

func (c *certificates) clientConfig() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	pool := x509.NewCertPool()
	for _, a := range c.trusted {
		pool.AddCert(a.cert)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
