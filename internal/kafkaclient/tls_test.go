package kafkaclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// certificate returns a self-signed certificate for the given host, which is its own root.
func certificate(t *testing.T, host string) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func tlsCluster(t *testing.T, certPEM, keyPEM []byte, clients *x509.CertPool) string {
	t.Helper()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(config))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}

func TestTLSTrust(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	otherPEM, otherKey := certificate(t, "elsewhere.example")
	good, misnamed := tlsCluster(t, certPEM, keyPEM, nil), tlsCluster(t, otherPEM, otherKey, nil)
	dir := t.TempDir()
	ca, other := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "other.pem")
	require.NoError(t, os.WriteFile(ca, certPEM, 0o600))
	require.NoError(t, os.WriteFile(other, otherPEM, 0o600))

	for _, c := range []struct {
		name string
		p    Properties
		ok   bool
	}{
		{"PEM trust store", Properties{"bootstrap.servers": good, "ssl.truststore.type": "PEM", "ssl.truststore.location": ca}, true},
		{"type left out", Properties{"bootstrap.servers": good, "ssl.truststore.location": ca}, true},
		{"ssl.ca.location", Properties{"bootstrap.servers": good, "ssl.ca.location": ca}, true},
		{"inline", Properties{"bootstrap.servers": good, "ssl.truststore.type": "PEM", "ssl.truststore.certificates": string(certPEM)}, true},
		{"inline on one line", Properties{"bootstrap.servers": good, "ssl.truststore.certificates": strings.ReplaceAll(string(certPEM), "\n", " ")}, true},
		{"unknown authority", Properties{"bootstrap.servers": good, "ssl.truststore.location": other}, false},
		{"roots of the system", Properties{"bootstrap.servers": good}, false},
		{"other host name", Properties{"bootstrap.servers": misnamed, "ssl.truststore.location": other}, false},
		{"other host name, not checked", Properties{"bootstrap.servers": misnamed, "ssl.truststore.location": other, "ssl.endpoint.identification.algorithm": ""}, true},
		{"unknown authority, name not checked", Properties{"bootstrap.servers": misnamed, "ssl.truststore.location": ca, "ssl.endpoint.identification.algorithm": ""}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := ping(t, c.p.With("security.protocol", "SSL"))
			if c.ok {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	addr := tlsCluster(t, certPEM, keyPEM, pool)
	base := Properties{"bootstrap.servers": addr, "security.protocol": "SSL", "ssl.truststore.certificates": string(certPEM)}
	both := filepath.Join(t.TempDir(), "client.pem")
	require.NoError(t, os.WriteFile(both, append(append([]byte{}, keyPEM...), certPEM...), 0o600))

	require.Error(t, ping(t, base))
	require.NoError(t, ping(t, base.With("ssl.keystore.certificate.chain", string(certPEM)).With("ssl.keystore.key", string(keyPEM))))
	require.NoError(t, ping(t, base.With("ssl.keystore.type", "PEM").With("ssl.keystore.location", both)))

	_, err := base.With("ssl.keystore.certificate.chain", string(certPEM)).With("ssl.keystore.key", strings.ReplaceAll(string(keyPEM), "PRIVATE", "ENCRYPTED PRIVATE")).liveTLS(operatorFiles)
	require.ErrorContains(t, err, "ssl.keystore.key: the private key is encrypted: set ssl.key.password")
	_, err = base.With("ssl.keystore.type", "BCFKS").liveTLS(operatorFiles)
	require.ErrorContains(t, err, `ssl.keystore.type: "BCFKS" is not supported`)
	_, err = base.With("ssl.keystore.type", "PKCS12").With("ssl.keystore.certificate.chain", string(certPEM)).liveTLS(operatorFiles)
	require.ErrorContains(t, err, "ssl.keystore.type is PKCS12, but ssl.keystore.certificate.chain takes only PEM text")
	_, err = base.With("ssl.keystore.certificate.chain", string(certPEM)).liveTLS(operatorFiles)
	require.ErrorContains(t, err, "ssl.keystore.certificate.chain")
}

func TestBrokenStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	for content, want := range map[string]string{
		"\xfe\xed\xfe\xed\x00\x00": "the store is damaged",
		"\xce\xce\xce\xce\x00\x00": "JCEKS",
		"\x30\x82\x0a\x00":         "neither PEM text nor a JKS or PKCS12 store",
		"hello":                    "neither PEM text nor a JKS or PKCS12 store",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "no valid PEM certificate",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := Properties{"security.protocol": "SSL", "ssl.truststore.location": path}.liveTLS(operatorFiles)
		require.ErrorContains(t, err, want)
	}
}

func FuzzInlinePEM(f *testing.F) {
	f.Add("-----BEGIN A----- QUJD -----END A-----")
	f.Add("-----BEGIN ----------END -----")
	f.Fuzz(func(_ *testing.T, s string) { _ = inlinePEM(s) })
}
