package kafkaclient

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// Stores that Java's keytool has made serve klink at brokers that know clients by certificate. When
// the authority changes, a client goes on with the new stores that take the place of the old ones.
func TestJavaStores(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.MutualTLS())
	const password = "hush-hush"
	stores := map[string]Properties{}
	for _, kind := range []string{"JKS", "PKCS12"} {
		p := Properties(cluster.JavaStores(t, kind, kafkatest.SuperUser, password))
		p["bootstrap.servers"] = cluster.Bootstrap()
		stores[kind] = p
		require.NoError(t, ping(t, p), kind)
		untyped := maps.Clone(p)
		delete(untyped, "ssl.truststore.type")
		delete(untyped, "ssl.keystore.type")
		require.NoError(t, ping(t, untyped), kind)
		require.NoError(t, ping(t, p.With("ssl.key.password", password)))
		principal, err := p.Principal()
		require.NoError(t, err)
		require.Equal(t, "User:CN="+kafkatest.SuperUser, principal)
		has, err := p.HasKeyStore()
		require.NoError(t, err)
		require.True(t, has)
		for _, key := range []string{"ssl.truststore.password", "ssl.keystore.password"} {
			_, err = p.With(key, "hush-wrong").Options()
			require.ErrorContains(t, err, key[:len(key)-len("password")]+"location: ")
			require.ErrorContains(t, err, "password is wrong")
			require.NotContains(t, err.Error(), "hush")
		}
		_, err = p.With("ssl.keystore.type", "PEM").Options()
		require.ErrorContains(t, err, "its type is set to PEM, but this is a "+kind+" store")
	}

	clients := map[string]*kgo.Client{}
	for kind, p := range stores {
		opts, err := p.Options()
		require.NoError(t, err)
		clients[kind] = kafkatest.NewClient(t, append(opts, kgo.RetryTimeout(time.Second), kgo.RequestRetries(0))...)
	}
	reaches := func(kind string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return clients[kind].Ping(ctx)
	}
	cluster.TrustNewAuthority(t)
	cluster.RenewCertificates(t)
	cluster.DropOldAuthority(t)
	for kind, p := range stores {
		require.Error(t, reaches(kind), "it has the old authority, and a certificate of it")
		for key, value := range cluster.JavaStores(t, kind, kafkatest.SuperUser, password) {
			if key == "ssl.truststore.location" || key == "ssl.keystore.location" {
				require.NoError(t, os.Rename(value, p[key]))
			}
		}
		require.NoError(t, reaches(kind))
	}
}

// expired returns a certificate whose time is over.
func expired(t *testing.T, certPEM, keyPEM []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	block, _ = pem.Decode(keyPEM)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	cert.NotAfter = time.Now().Add(-time.Minute)
	der, err := x509.CreateCertificate(nil, cert, cert, cert.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// An expired certificate, the broker's or klink's, is refused as what it is; a client goes on with
// the new certificate.
func TestExpiredCertificates(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	oldPEM := expired(t, certPEM, keyPEM)
	err := ping(t, Properties{
		"bootstrap.servers": tlsCluster(t, oldPEM, keyPEM, nil), "security.protocol": "SSL", "ssl.truststore.certificates": string(oldPEM),
	})
	require.ErrorContains(t, err, "expired")
	require.Equal(t, TroubleTLS, Classify(err))

	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(certPEM)
	store := t.TempDir() + "/store.pem"
	place(t, store, append(append([]byte{}, keyPEM...), oldPEM...))
	opts, err := Properties{
		"bootstrap.servers": tlsCluster(t, certPEM, keyPEM, clients), "security.protocol": "SSL",
		"ssl.truststore.certificates": string(certPEM), "ssl.keystore.location": store,
	}.Options()
	require.NoError(t, err)
	cl := kafkatest.NewClient(t, append(opts, kgo.RetryTimeout(time.Second), kgo.RequestRetries(0))...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.Error(t, cl.Ping(ctx))
	place(t, store, append(append([]byte{}, keyPEM...), certPEM...))
	require.NoError(t, cl.Ping(ctx))
}
