package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testTLS returns a server's and a client's configuration for 127.0.0.1.
func testTLS(t testing.TB) (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "klink test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// wires runs a test over every combination of plaintext and TLS.
func wires(t *testing.T, f func(t *testing.T, w wire)) {
	server, client := testTLS(t)
	noName := client.Clone()
	noName.ServerName = "" // the proxy must verify the address that it dials
	for name, w := range map[string]wire{
		"plain-plain": {},
		"tls-plain":   {proxyServer: server, client: client},
		"plain-tls":   {broker: server, proxyClient: noName},
		"tls-tls":     {proxyServer: server, client: client, broker: server, proxyClient: noName},
	} {
		t.Run(name, func(t *testing.T) { f(t, w) })
	}
}

// wire is how client, proxy and broker talk; nil = plaintext.
type wire struct{ client, proxyServer, proxyClient, broker *tls.Config }

func (w wire) proxy(t testing.TB, hook func(net.Conn), change ...func(*Config)) (*Proxy, *fakeBroker) {
	broker := newBroker(t, w.broker, hook)
	p, _ := newProxy(t, broker.addr(), append(change, func(c *Config) { c.Listeners[0].TLS, c.UpstreamTLS = w.proxyServer, w.upstream() })...)
	return p, broker
}

// upstream is the proxy's Config.UpstreamTLS.
func (w wire) upstream() func() *tls.Config {
	if w.proxyClient == nil {
		return nil
	}
	return func() *tls.Config { return w.proxyClient }
}

// Connections to a broker share a TLS configuration until Config.UpstreamTLS returns another.
func TestUpstreamTLSChanges(t *testing.T) {
	current := &tls.Config{MinVersion: tls.VersionTLS12}
	p, _ := newProxy(t, "", func(c *Config) { c.UpstreamTLS = func() *tls.Config { return current } })
	first, err := p.tlsFor("broker:1", nil)
	require.NoError(t, err)
	require.Equal(t, "broker", first.ServerName)
	again, err := p.tlsFor("broker:2", nil)
	require.NoError(t, err)
	require.Same(t, first, again)
	current = &tls.Config{MinVersion: tls.VersionTLS13}
	next, err := p.tlsFor("broker:1", nil)
	require.NoError(t, err)
	require.Equal(t, current.MinVersion, next.MinVersion)
	again, err = p.tlsFor("broker:1", nil)
	require.NoError(t, err)
	require.Same(t, next, again)
}

// secure is the client's end of a connection to the proxy.
func (w wire) secure(conn net.Conn) net.Conn {
	if w.client == nil {
		return conn
	}
	return tls.Client(conn, w.client)
}

func dialPort(t testing.TB, w wire, port int32) net.Conn {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*requestTimeout)))
	t.Cleanup(func() { _ = conn.Close() })
	return w.secure(conn)
}

func TestConversationsOverEveryWire(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		p, broker := w.proxy(t, nil)
		for seed := range uint64(6) {
			rnd := mathrand.New(mathrand.NewPCG(seed, 2))
			size := []int{10, 5000, 500_000}[seed%3]
			requests := randomRequests(rnd, 1+10_000_000/(size+100_000), size, size)
			converse(t, dialProxy(t, p, w.client), requests, 1+rnd.IntN(2*size), rnd)
			var silent int64
			for _, r := range requests {
				if r.kind == kNoResponse {
					silent++
				}
			}
			eventually(t, "requests without response reach the broker", func() bool { return broker.got.Load() == silent })
			broker.got.Store(0)
		}
		require.Zero(t, p.Stats().Panics.Load())
	})
}

func TestTLSFailures(t *testing.T) {
	server, client := testTLS(t)
	_, stranger := testTLS(t)
	t.Run("the client speaks plaintext", func(t *testing.T) {
		p, _ := wire{proxyServer: server}.proxy(t, nil)
		conn := dialProxy(t, p, nil)
		_, err := conn.Write(request(kForward, 1, 1))
		require.NoError(t, err)
		expectClosed(t, conn)
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonTLS) == 1 })
	})
	t.Run("the client says nothing", func(t *testing.T) {
		p, _ := wire{proxyServer: server}.proxy(t, nil, func(c *Config) { c.HandshakeTimeout = 20 * time.Millisecond })
		expectClosed(t, dialProxy(t, p, nil))
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonTLS) == 1 })
	})
	t.Run("the broker's certificate is not trusted", func(t *testing.T) {
		p, _ := wire{broker: server, proxyClient: stranger}.proxy(t, nil)
		expectClosed(t, askProxy(t, p))
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonDial) == 1 })
	})
	t.Run("garbage after the handshake", func(t *testing.T) {
		p, _ := wire{proxyServer: server, client: client}.proxy(t, nil)
		raw := dialProxy(t, p, nil)
		conn := tls.Client(raw, client)
		require.NoError(t, conn.Handshake())
		converse(t, conn, []testRequest{{kind: kForward, n: 10}}, 1000, mathrand.New(mathrand.NewPCG(1, 1)))
		_, err := raw.Write([]byte("\x17\x03\x03\x00\x20this is not a record of the key in use"))
		require.NoError(t, err)
		expectClosed(t, conn)
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonTLS) == 1 })
	})
	t.Run("close_notify ends the connection", func(t *testing.T) {
		p, _ := wire{proxyServer: server, client: client}.proxy(t, nil)
		raw := dialProxy(t, p, nil)
		conn := tls.Client(raw, client)
		converse(t, conn, []testRequest{{kind: kForward, n: 10}}, 1000, mathrand.New(mathrand.NewPCG(1, 1)))
		require.NoError(t, conn.CloseWrite())
		expectClosed(t, conn)
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonClient) == 1 })
	})
}
