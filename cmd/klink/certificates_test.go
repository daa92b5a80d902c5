package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"klink/internal/config"
)

// The destination asks for certificates. Without a login, serve ends and says why. With one, it
// serves clients that log in, unless the certificate is required.
func TestServeBeforeCertificates(t *testing.T) {
	for _, c := range []struct {
		name    string
		login   bool
		auth    tls.ClientAuthType
		refusal string
	}{
		{"SSL required", false, tls.RequireAndVerifyClientCert, "asks clients for a certificate (ssl.client.auth)"},
		{"SSL requested", false, tls.VerifyClientCertIfGiven, "asks clients for a certificate (ssl.client.auth)"},
		{"SSL none", false, tls.NoClientCert, ""},
		{"SASL_SSL required", true, tls.RequireAndVerifyClientCert, "requires a certificate from its clients (ssl.client.auth=required"},
		{"SASL_SSL requested", true, tls.VerifyClientCertIfGiven, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t: t, dir: t.TempDir()}
			caFile, keyFile, cert := w.certificate("broker")
			pool := x509.NewCertPool()
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			require.NoError(t, err)
			pool.AddCert(leaf)
			options := []kfake.Opt{
				kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: c.auth, ClientCAs: pool}),
			}
			properties := "security.protocol=SSL\n"
			var client []kgo.Opt
			if c.login {
				client = append(client, kgo.SASL(plain.Auth{User: "admin", Pass: "secret"}.AsMechanism()))
				options = append(options, kfake.EnableSASL(), kfake.Superuser("PLAIN", "admin", "secret"))
				properties = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config=" +
					`org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="secret";` + "\n"
			}
			cluster, err := kfake.NewCluster(options...)
			require.NoError(t, err)
			defer cluster.Close()
			key, err := os.ReadFile(keyFile)
			require.NoError(t, err)
			chain, err := os.ReadFile(caFile)
			require.NoError(t, err)
			store := w.file("store.pem", string(key)+string(chain))
			path := w.file("destination.properties", properties+"ssl.truststore.location="+caFile+"\nssl.keystore.location="+store+"\n")

			flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			config.AddFlags(flags)
			require.NoError(t, flags.Parse([]string{
				"--listen", "127.0.0.1:0", "--drain-timeout", "5s", "--destination", cluster.ListenAddrs()[0], "--destination-config", path,
			}))
			cfg, err := config.Load(flags, nil)
			require.NoError(t, err)
			var log bytes.Buffer
			s, err := assemble(context.Background(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, err)
			require.Contains(t, log.String(), "klink uses its certificate only for its own connections")
			s.log = slog.New(slog.NewTextHandler(t.Output(), nil))

			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			ready, done := make(chan struct{}), make(chan error, 1)
			go func() { done <- s.Run(ctx, func() { close(ready) }) }()
			select {
			case <-ready:
				require.Empty(t, c.refusal, "serve is ready")
			case err := <-done:
				require.ErrorContains(t, err, c.refusal)
				require.NotEmpty(t, c.refusal, "serve has refused: %v", err)
				require.ErrorContains(t, err, cluster.ListenAddrs()[0])
				return
			case <-time.After(time.Minute):
				t.Fatal("serve is neither ready nor over")
			}
			cl, err := kgo.NewClient(append(client, kgo.SeedBrokers(s.proxy.Addr().String()))...)
			require.NoError(t, err)
			defer cl.Close()
			_, err = kadm.NewClient(cl).ListTopics(t.Context())
			require.NoError(t, err)
			stop()
			require.NoError(t, <-done)
		})
	}
}
