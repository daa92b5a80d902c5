package kafkatest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// CAFile is the PEM file of the authority that signed the brokers' certificates, empty without TLS.
func (c *Cluster) CAFile() string {
	if c.tls == nil {
		return ""
	}
	return c.tls.caFile
}

// ServerCertificate returns the PEM files of a certificate for 127.0.0.1 and localhost, signed by
// [Cluster.CAFile], and of its key, for a proxy in front of the cluster. Both are empty without
// TLS.
func (c *Cluster) ServerCertificate() (certFile, keyFile string) {
	if c.tls == nil {
		return "", ""
	}
	return c.tls.certFile, c.tls.keyFile
}

// ClientCertificate returns a PEM file with the private key and the certificate of a user, as
// ssl.keystore.location takes it, signed by [Cluster.CAFile]. It is empty without [MutualTLS] or
// [ClientAuth]. The file exists as long as the cluster.
func (c *Cluster) ClientCertificate(user string) string { return c.clientCertificate(user).file }

// clientCertificate returns the certificate of a user if the listener takes one. It can fail only
// if the disk is full.
func (c *Cluster) clientCertificate(user string) clientCertificate {
	if c.opts.clientAuth == "" || user == "" {
		return clientCertificate{}
	}
	made, err := c.tls.client(user)
	if err != nil {
		panic(fmt.Sprintf("kafkatest: certificate of %s: %v", user, err))
	}
	return made
}

// Client returns a franz-go client of the cluster, authenticated as [SuperUser] if there are users.
// It is closed at the end of the test. Records go to the partition that they name, 0 by default.
// The given options come last and override the others.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	all := append([]kgo.Opt{
		kgo.SeedBrokers(c.seeds()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, c.superOpts()...)
	return NewClient(t, append(all, opts...)...)
}

// DirectClient is [Cluster.Client], but bypasses the brokers' [Faults]. Not for TLS.
func (c *Cluster) DirectClient(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	direct := map[string]string{}
	for _, b := range c.brokers {
		direct[b.Addr()] = b.addr
	}
	dial := func(ctx context.Context, network, host string) (net.Conn, error) {
		if to, ok := direct[host]; ok {
			host = to
		}
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, host)
	}
	return c.Client(t, append([]kgo.Opt{kgo.Dialer(dial)}, opts...)...)
}

// NewClient is kgo.NewClient for a test: it fails the test on an error and closes the client at its
// end.
func NewClient(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (c *Cluster) superOpts() []kgo.Opt { return c.ClientOpts(SuperUser, SuperUserPassword) }

// ClientOpts returns the options with which a franz-go client authenticates as a user, without the
// addresses, so that they also serve for a proxy in front of the cluster. With [MutualTLS] or
// [ClientAuth] the client presents the user's certificate. Without either and without SASL the user
// is ignored.
func (c *Cluster) ClientOpts(user, password string) []kgo.Opt {
	var opts []kgo.Opt
	if c.opts.tls() {
		opts = append(opts, kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			config := c.tls.clientConfig() // certificates and authorities may have been renewed
			if cert := c.clientCertificate(user); cert.file != "" {
				config.Certificates = []tls.Certificate{cert.pair}
			}
			return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}).DialContext(ctx, network, host)
		}))
	}
	if !c.opts.sasl() {
		return opts
	}
	switch c.mechanism(user) {
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	default:
		opts = append(opts, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	}
	return opts
}

func (c *Cluster) mechanism(user string) string {
	for _, u := range c.opts.scram {
		if u.name == user {
			return u.mechanism
		}
	}
	return "PLAIN"
}

// ClientProperties returns the properties with which a Java client, or klink, authenticates as a
// user, without bootstrap.servers.
func (c *Cluster) ClientProperties(user, password string) map[string]string {
	props := map[string]string{"security.protocol": c.opts.protocol}
	if c.opts.tls() {
		props["ssl.truststore.type"] = "PEM"
		props["ssl.truststore.location"] = c.tls.caFile
		if cert := c.clientCertificate(user); cert.file != "" {
			props["ssl.keystore.type"] = "PEM"
			props["ssl.keystore.location"] = cert.file
		}
	}
	if c.opts.sasl() {
		module, mechanism := "plain.PlainLoginModule", c.mechanism(user)
		if strings.HasPrefix(mechanism, "SCRAM") {
			module = "scram.ScramLoginModule"
		}
		props["sasl.mechanism"] = mechanism
		props["sasl.jaas.config"] = fmt.Sprintf(
			`org.apache.kafka.common.security.%s required username="%s" password="%s";`, module, user, password)
	}
	return props
}

// PropertiesFile writes [Cluster.ClientProperties] to a file that lives as long as the test.
func (c *Cluster) PropertiesFile(t testing.TB, user, password string) string {
	t.Helper()
	return WriteProperties(t, c.ClientProperties(user, password))
}

// WriteProperties writes a Java properties file that lives as long as the test, and returns its
// path.
func WriteProperties(t testing.TB, props map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client.properties")
	if err := writeProperties(path, props); err != nil {
		t.Fatal(err)
	}
	return path
}
