package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// certificate writes files with a self-signed certificate for 127.0.0.1, which is its own
// authority.
func (w *world) certificate(name string) (certFile, keyFile string, cert tls.Certificate) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(w.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(w.t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(w.t, err)
	return w.file(name+".pem", string(certPEM)), w.file(name+".key", string(keyPEM)), cert
}

// TLS and SASL everywhere: the source, the destination, klink towards clients. The link's password
// is stored encrypted, survives a restart, and is never shown. A klink without the key says what is
// missing.
func TestSecuredOnAllSides(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	brokerCA, _, brokerCert := w.certificate("broker")
	klinkCA, klinkKey, _ := w.certificate("klink")
	secured := func(id, user, password string) string {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", user, password),
			kfake.TLS(&tls.Config{Certificates: []tls.Certificate{brokerCert}}))
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c.ListenAddrs()[0]
	}
	properties := func(name, address, user, password, ca string) string {
		return w.file(name, "bootstrap.servers="+address+"\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n"+
			`sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="`+user+`" password="`+password+`";`+
			"\nssl.truststore.type=PEM\nssl.truststore.location="+ca+"\n")
	}
	w.source, w.destination = secured("source-id", "reader", "SOURCE-S3CRET"), secured("destination-id", "admin", "ADMIN-S3CRET")
	// A link may name files on klink's machine if klink's settings allow it, but never klink's own
	// keys.
	public := filepath.Join(w.dir, "public")
	require.NoError(t, os.Mkdir(public, 0o700))
	linkCA := w.file("public/broker.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: brokerCert.Certificate[0]})))
	properties("source.config", w.source, "reader", "SOURCE-S3CRET", linkCA)
	key := w.file("secrets.key", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	// klink's own password is in a file of its own.
	require.NoError(t, os.Mkdir(filepath.Join(w.dir, "own"), 0o700))
	w.file("own/password", "ADMIN-S3CRET\n")
	flags := []string{
		"--destination-config", properties("destination.properties", w.destination, "admin", "${dir:"+w.dir+"/own:password}", brokerCA),
		"--tls-cert-file", klinkCA, "--tls-key-file", klinkKey, "--http", "127.0.0.1:0",
		"--link-file-directories", public,
	}
	refused := func(want string, flags ...string) {
		_, stderr, code := w.run("", append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, want)
	}
	refused("--tls-key-file", append(flags, "--link-file-directories", w.dir)...)
	refused("the file of a reference in --destination-config", append(flags, "--link-file-directories", filepath.Join(w.dir, "own"))...)
	refused("is not an absolute path", append(flags, "--link-file-directories", "public")...)
	refused("no such file", append(flags, "--link-file-directories", public+"/none")...)
	refused("is not a URL", append(flags, "--link-token-endpoints", "idp.example")...)
	token := w.file("token.properties", "bootstrap.servers="+w.destination+"\nsecurity.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n"+
		"sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"+
		"sasl.oauthbearer.token.endpoint.url=file://"+w.file("public/token", "x")+"\n")
	refused("the file of sasl.oauthbearer.token.endpoint.url of --destination-config, is in one of them", append(flags, "--destination-config", token)...)
	identities := w.file("map.yaml", "User:a: {destination: {ssl.keystore.location: "+public+"/broker.pem}}\n")
	_, stderr, code := w.run("", append(append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...),
		"--ssl-client-auth", "required", "--ssl-client-ca-file", klinkCA, "--credential-map-file", identities)...)
	require.Equal(t, exitError, code)
	require.Contains(t, stderr, "is in one of --link-file-directories, so links could use it")
	// serve runs klink and points the context dst at it.
	serve := func(flags ...string) (stop func()) {
		s := newServer(t, flags...)
		ctx, cancel := context.WithCancel(context.Background())
		ready, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- s.Run(ctx, func() { close(ready) }) }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
		w.klink = s.proxy.Addr().String()
		w.must("", "context", "create", "dst", "--command-config", properties("client.properties", w.klink, "admin", "ADMIN-S3CRET", klinkCA))
		return func() {
			cancel()
			require.NoError(t, <-done)
		}
	}
	w.must("", "context", "create", "src", "--command-config", "source.config")

	stop := serve(append(flags, "--secrets-key-file", key)...)
	w.must("", "context", "use", "dst")
	w.mirror("orders", "one", "two")
	shown := w.must("", "link", "describe", "east") + w.must("", "link", "describe", "east", "-o", "json")
	require.Contains(t, shown, "[hidden]")
	require.NotContains(t, shown, "S3CRET")
	require.Contains(t, w.refused("mine", "topic", "produce", "orders"), "read-only mirror topic 'orders'")

	// A client with a wrong password is refused.
	_, stderr, code = w.run("", "topic", "list", "--cluster", "dst", "--command-config",
		properties("wrong.properties", w.klink, "admin", "WRONG-S3CRET", klinkCA))
	require.Equal(t, exitError, code)
	require.NotContains(t, stderr, "S3CRET")
	stop()

	stop = serve(append(flags, "--secrets-key-file", key)...)
	w.must("three", "topic", "produce", "orders", "--cluster", "src")
	require.Equal(t, "one\ntwo\nthree\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "3"))
	stop()

	stop = serve(flags...)
	w.eventually("the link says that its key is missing", func() bool {
		describe := w.must("", "link", "describe", "east")
		require.NotContains(t, describe, "S3CRET")
		return contains(describe, "FAILED", "--secrets-key-file")
	})
	require.Equal(t, "one\ntwo\nthree\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "3"))
	require.Contains(t, w.refused("mine", "topic", "produce", "orders"), "read-only mirror topic 'orders'")
	stop()
}
