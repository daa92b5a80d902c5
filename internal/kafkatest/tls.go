package kafkatest

import (
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

// certificates is an authority made for one cluster, a server certificate for 127.0.0.1 and
// localhost, and client certificates by principal.
type certificates struct {
	dir      string
	caFile   string // PEM
	certFile string // PEM, certificate
	keyFile  string // PEM, PKCS #8
	keystore string // PEM, key and certificate in one, as Kafka wants it
	pool     *x509.CertPool
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey

	mu      sync.Mutex
	clients map[string]clientCertificate // by common name
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
		pool:     x509.NewCertPool(),
	}
	if err := c.generate(); err != nil {
		return nil, fmt.Errorf("kafkatest: certificates: %w", err)
	}
	return c, nil
}

func (c *certificates) generate() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kafkatest authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return err
	}
	c.ca, c.caKey = ca, caKey
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
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	c.pool.AppendCertsFromPEM(caPEM)
	for path, data := range map[string][]byte{
		c.caFile:   caPEM,
		c.certFile: certPEM,
		c.keyFile:  keyPEM,
		c.keystore: append(append([]byte{}, keyPEM...), certPEM...),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sign makes a key and has the authority sign a certificate for it; both are returned as PEM.
func (c *certificates) sign(leaf *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf.NotBefore, leaf.NotAfter, leaf.KeyUsage = c.ca.NotBefore, c.ca.NotAfter, x509.KeyUsageDigitalSignature
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, c.ca, key.Public(), c.caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// client returns the certificate of a user, and makes it on the first call.
func (c *certificates) client(user string) (clientCertificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.clients[user]; ok {
		return known, nil
	}
	certPEM, keyPEM, err := c.sign(&x509.Certificate{
		SerialNumber: big.NewInt(int64(len(c.clients)) + 3),
		Subject:      pkix.Name{CommonName: user},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return clientCertificate{}, err
	}
	made := clientCertificate{file: filepath.Join(c.dir, fmt.Sprintf("client-%d.pem", len(c.clients)))}
	if made.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return clientCertificate{}, err
	}
	if err := os.WriteFile(made.file, append(keyPEM, certPEM...), 0o600); err != nil {
		return clientCertificate{}, err
	}
	c.clients[user] = made
	return made, nil
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
	return &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}
}
