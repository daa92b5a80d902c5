package gate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"klink/internal/credentials"
	"klink/internal/kafkaclient"
	"klink/internal/principal"
	"klink/internal/saslserver"
	"klink/internal/saslserver/users"
	"klink/proxy"
	"klink/router"
)

// passOn are sessions that decide nothing: what the gate does shows all the better.
type passOn struct{}

func (passOn) NewSession(router.Client) router.Session { return passOn{} }
func (passOn) Proven() bool                            { return true }
func (passOn) Prove() router.Decision                  { return router.Decision{Action: router.Drop} }
func (passOn) Closed()                                 {}
func (passOn) Request(frame []byte) router.Decision {
	return router.Decision{Action: router.Forward, Frame: frame}
}

// The users of the destination, and klink's own.
const (
	destinationUser, destinationPassword = "dest-alice", "dest-alice-secret"
	ownUser, ownPassword                 = "klink", "klink-own-secret"
	refusedUser                          = "dest-refused"
)

// world is a destination with SASL, a proxy with a gate, and what they share.
type world struct {
	t       *testing.T
	fake    *kfake.Cluster
	proxy   *proxy.Proxy
	gate    *Gate
	mapFile string
	users   string
	log     *output
	dir     string
	ca      *authority
	logins  atomic.Int64 // messages of logins that the broker has got
}

// output collects the log.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// settings of a world.
type settings struct {
	mechanisms []string // none = certificates say who clients are
	rules      string
	tokens     *saslserver.Tokens
	tls        bool
	required   bool // certificates
	brokers    []kfake.Opt
}

// entry is the part of a credential map for one principal.
func entry(principal, user, password string) string {
	return fmt.Sprintf("%q:\n  destination:\n    sasl.mechanism: SCRAM-SHA-256\n    sasl.jaas.config: 'org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";'\n",
		principal, user, password)
}

func newWorld(t *testing.T, s settings, entries ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: &output{}}
	var err error
	w.fake, err = kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "orders", "secret"),
		kfake.Superuser("SCRAM-SHA-256", ownUser, ownPassword),
		kfake.User("SCRAM-SHA-256", destinationUser, destinationPassword, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "orders", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationAll, Allow: true}),
		kfake.User("SCRAM-SHA-256", "dest-bob", "dest-bob-secret"),
	}, s.brokers...)...)
	require.NoError(t, err)
	t.Cleanup(w.fake.Close)
	// A real broker says that a password is wrong, and this one closes the connection.
	w.fake.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		w.logins.Add(1)
		if !bytes.Contains(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, []byte(refusedUser)) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("Invalid username or password")
		return resp, nil, true
	})
	w.mapFile, w.users = filepath.Join(w.dir, "map.yaml"), filepath.Join(w.dir, "users.json")
	w.writeMap(entries...)
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reach := kafkaclient.Properties{
		"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "bootstrap.servers": strings.Join(w.fake.ListenAddrs(), ","),
		"sasl.jaas.config": fmt.Sprintf(`org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`, ownUser, ownPassword),
	}
	c := Config{Links: true}
	c.Map, err = credentials.Open(w.mapFile, reach, func(string) bool { return false }, log)
	require.NoError(t, err)
	if s.rules != "" {
		c.Rules, err = principal.ParseRules(s.rules)
		require.NoError(t, err)
	}
	if len(s.mechanisms) > 0 {
		table := users.New()
		require.NoError(t, table.Set("alice", "alice-secret", users.Mechanisms, users.MinIterations))
		require.NoError(t, table.Set("bob", "bob-secret", users.Mechanisms, users.MinIterations))
		require.NoError(t, table.Write(w.users))
		file, err := users.Follow(w.users, log)
		require.NoError(t, err)
		c.Server, err = saslserver.New(s.mechanisms, file, s.tokens)
		require.NoError(t, err)
		options, err := reach.Options()
		require.NoError(t, err)
		own, err := kgo.NewClient(options...)
		require.NoError(t, err)
		t.Cleanup(own.Close)
		c.Versions = func(ctx context.Context, _ int32) (*kmsg.ApiVersionsResponse, error) {
			return kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, own)
		}
	}
	w.gate = New(c)
	config := proxy.Config{Listeners: []proxy.Listener{{Listen: "127.0.0.1:0"}}, Sessions: passOn{}, Gate: w.gate, Logger: log, Loops: 2, SASL: true}
	if s.tls {
		w.ca = newAuthority(t)
		config.Listeners[0].TLS = &tls.Config{Certificates: []tls.Certificate{w.ca.issue(t, nil)}, MinVersion: tls.VersionTLS12}
		file := filepath.Join(w.dir, "ca.pem")
		require.NoError(t, os.WriteFile(file, w.ca.pem, 0o600))
		check := w.gate.CheckCertificate
		if c.Server != nil {
			check = nil
		}
		require.NoError(t, AskCertificates(config.Listeners[0].TLS, file, s.required, check, log))
	}
	w.proxy, err = proxy.New(config)
	require.NoError(t, err)
	require.NoError(t, w.proxy.Start())
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { w.gate.Run(ctx, w.proxy.Expel) })
	t.Cleanup(func() {
		cancel()
		run.Wait()
		_ = w.proxy.Close()
		// Whatever happened, no secret is in the log.
		for _, secret := range []string{"secret", "password"} {
			require.NotContains(t, w.log.String(), "-"+secret)
		}
	})
	w.proxy.SetBootstrap(w.fake.ListenAddrs())
	host, port, err := net.SplitHostPort(w.fake.ListenAddrs()[0])
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	_, err = w.proxy.SetBrokers([]proxy.Broker{{ID: 0, Host: host, Port: int32(number)}})
	require.NoError(t, err)
	return w
}

func (w *world) writeMap(entries ...string) {
	w.t.Helper()
	temporary := w.mapFile + ".new"
	require.NoError(w.t, os.WriteFile(temporary, []byte(strings.Join(entries, "")), 0o600))
	require.NoError(w.t, os.Rename(temporary, w.mapFile))
}

// client returns a client whose every connection leads to klink.
func (w *world) client(config *tls.Config, mechanism sasl.Mechanism, more ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := &net.Dialer{}
		if config == nil {
			return d.DialContext(ctx, "tcp", w.proxy.Addr().String())
		}
		return (&tls.Dialer{NetDialer: d, Config: config}).DialContext(ctx, "tcp", w.proxy.Addr().String())
	}
	options := append([]kgo.Opt{kgo.SeedBrokers(w.proxy.Addr().String()), kgo.Dialer(dial), kgo.RetryTimeout(2 * time.Second), kgo.RequestRetries(1), kgo.DefaultProduceTopic("orders"), kgo.RecordRetries(2)}, more...)
	if mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	cl, err := kgo.NewClient(options...)
	require.NoError(w.t, err)
	w.t.Cleanup(cl.Close)
	return cl
}

// produce writes a record.
func (w *world) produce(cl *kgo.Client, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

// reach asks the broker something, once.
func (w *world) reach(cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := cl.SeedBrokers()[0].Request(ctx, kmsg.NewPtrMetadataRequest())
	return err
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	a := &authority{key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// issue signs a certificate for 127.0.0.1; change may change it before.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "klink"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// named is the configuration of a client with a certificate.
func (w *world) named(cn, ou string) *tls.Config {
	return w.showing(w.ca.issue(w.t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: cn}
		if ou != "" {
			c.Subject.OrganizationalUnit = []string{ou}
		}
	}))
}

func (w *world) showing(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: w.ca.pool, ServerName: "127.0.0.1", Certificates: certificates, MinVersion: tls.VersionTLS12}
}
