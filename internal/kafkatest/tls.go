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
	"time"
)

// certificates is an authority made for one cluster and a server certificate for 127.0.0.1 and localhost.
type certificates struct {
	caFile   string // PEM
	certFile string // PEM, certificate
	keyFile  string // PEM, PKCS #8
	keystore string // PEM, key and certificate in one, as Kafka wants it
	pool     *x509.CertPool
}

func newCertificates(dir string) (*certificates, error) {
	c := &certificates{
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
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

// brokerConfig is for one of a broker's listeners.
func (c *certificates) brokerConfig(listener string) map[string]string {
	prefix := "listener.name." + strings.ToLower(listener) + ".ssl."
	return map[string]string{
		prefix + "keystore.type":     "PEM",
		prefix + "keystore.location": c.keystore,
		prefix + "client.auth":       "none",
	}
}

func (c *certificates) clientConfig() *tls.Config {
	return &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}
}
