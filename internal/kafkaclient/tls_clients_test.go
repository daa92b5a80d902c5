package kafkaclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asking starts a TLS listener that records the certificates that clients show.
func asking(t *testing.T, certPEM, keyPEM []byte, auth tls.ClientAuthType, version uint16) (addr string, shown <-chan int) {
	t.Helper()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: auth, ClientCAs: pool, MinVersion: version, MaxVersion: version,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	certificates := make(chan int, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		server := conn.(*tls.Conn)
		if server.Handshake() != nil {
			certificates <- -1
			return
		}
		certificates <- len(server.ConnectionState().PeerCertificates)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return ln.Addr().String(), certificates
}

// Whatever a listener asks for, connections that carry clients' requests show no certificate,
// although klink has one that the listener would accept. Without SASL, there is no connection if
// the listener asks for a certificate.
func TestClientsTLSHasNoCertificate(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	store := filepath.Join(t.TempDir(), "client.pem")
	require.NoError(t, os.WriteFile(store, append(append([]byte{}, keyPEM...), certPEM...), 0o600))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for protocol, auths := range map[string]map[tls.ClientAuthType]int{
			// The number of certificates that the listener gets; -1 = no handshake.
			"SSL":      {tls.NoClientCert: 0, tls.RequestClientCert: -1, tls.VerifyClientCertIfGiven: -1, tls.RequireAndVerifyClientCert: -1},
			"SASL_SSL": {tls.NoClientCert: 0, tls.RequestClientCert: 0, tls.VerifyClientCertIfGiven: 0, tls.RequireAndVerifyClientCert: -1},
		} {
			for auth, want := range auths {
				t.Run(tls.VersionName(version)+" "+protocol+" "+auth.String(), func(t *testing.T) {
					p := Properties{
						"security.protocol": protocol, "ssl.truststore.certificates": string(certPEM), "ssl.keystore.location": store,
					}
					own, err := p.liveTLS(operatorFiles)
					require.NoError(t, err)
					require.Len(t, own().Certificates, 1, "klink's own connections do show one")
					clients, err := p.ClientsTLS()
					require.NoError(t, err)
					config := clients()
					require.Empty(t, config.Certificates)
					addr, shown := asking(t, certPEM, keyPEM, auth, version)
					config.ServerName = "127.0.0.1"
					raw, err := net.Dial("tcp", addr)
					require.NoError(t, err)
					defer raw.Close()
					require.NoError(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
					err = tls.Client(raw, config).Handshake()
					require.Equal(t, protocol == "SSL" && want < 0, errors.Is(err, ErrCertificateAsked), "%v", err)
					_ = raw.(*net.TCPConn).CloseWrite()
					require.Equal(t, want, <-shown)
				})
			}
		}
	}
}

// Brokers are checked as on klink's own connections.
func TestClientsTLSTrustsTheSame(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	otherPEM, otherKey := certificate(t, "elsewhere.example")
	for _, c := range []struct {
		name        string
		cert, key   []byte
		trust       []byte
		identify    string
		handshaking bool
	}{
		{"right", certPEM, keyPEM, certPEM, "https", true},
		{"unknown authority", certPEM, keyPEM, otherPEM, "https", false},
		{"other host name", otherPEM, otherKey, otherPEM, "https", false},
		{"other host name, not checked", otherPEM, otherKey, otherPEM, "", true},
		{"unknown authority, name not checked", certPEM, keyPEM, otherPEM, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := Properties{
				"security.protocol": "SSL", "ssl.truststore.certificates": string(c.trust),
				"ssl.endpoint.identification.algorithm": c.identify,
			}.ClientsTLS()
			require.NoError(t, err)
			addr, _ := asking(t, c.cert, c.key, tls.NoClientCert, tls.VersionTLS13)
			conn, err := tls.Dial("tcp", addr, config())
			require.Equal(t, c.handshaking, err == nil, "%v", err)
			if err == nil {
				_ = conn.Close()
			}
		})
	}
	plain, err := Properties{"security.protocol": "SASL_PLAINTEXT"}.ClientsTLS()
	require.NoError(t, err)
	require.Nil(t, plain)
	_, err = Properties{"security.protocol": "TLS"}.ClientsTLS()
	require.Error(t, err)
}
