package kafkatest

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// renewTimeout is how long brokers may take to use new certificates.
	renewTimeout = time.Minute
	// networkThreads is more than a broker has of them. Each has certificates of its own, and they
	// take turns in new connections: so this many in a row tell that all have the new ones.
	networkThreads = 8
)

// TrustNewAuthority is the first step to another authority, as people do it while a cluster runs:
// brokers, and [Cluster.CAFile], trust a new authority besides the old one. It returns when they
// do.
func (c *Cluster) TrustNewAuthority(t testing.TB) {
	t.Helper()
	c.tls.mu.Lock()
	old := c.tls.authority
	c.tls.renewals++
	made, err := newAuthority(fmt.Sprintf("kafkatest authority %d", c.tls.renewals))
	if err == nil {
		c.tls.authority = made // of the certificates from now on
		err = c.tls.trust(old, made)
	}
	c.tls.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.reloadTrust(t)
}

// RenewCertificates is the second step: the brokers and all users get certificates of the new
// authority, in the same files ([Cluster.ServerCertificate], [Cluster.ClientCertificate]).
func (c *Cluster) RenewCertificates(t testing.TB) {
	t.Helper()
	c.tls.mu.Lock()
	keystore := filepath.Join(c.tls.dir, fmt.Sprintf("keystore-%d.pem", c.tls.renewals))
	err := c.tls.serve(keystore)
	for user, known := range c.tls.clients {
		if err == nil {
			_, err = c.tls.issue(user, known.file)
		}
	}
	c.tls.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.reconfigure(t, "keystore.location", keystore)
	c.await(t, "the new certificate", func(addr string) error {
		config := c.tls.clientConfig()
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			return err
		}
		defer conn.Close()
		if issuer := conn.ConnectionState().PeerCertificates[0].Issuer.String(); issuer != c.tls.authority.cert.Subject.String() {
			return fmt.Errorf("a certificate of %s", issuer)
		}
		return nil
	})
}

// DropOldAuthority is the last step: brokers, and [Cluster.CAFile], trust only the new authority.
func (c *Cluster) DropOldAuthority(t testing.TB) {
	t.Helper()
	c.tls.mu.Lock()
	err := c.tls.trust(c.tls.authority)
	c.tls.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.reloadTrust(t)
}

// reloadTrust makes brokers read again whom they trust, and waits until they accept a certificate
// of the newest authority.
func (c *Cluster) reloadTrust(t testing.TB) {
	t.Helper()
	if c.opts.clientAuth == "" {
		return // they trust nobody
	}
	c.tls.mu.Lock()
	trust := filepath.Join(c.tls.dir, fmt.Sprintf("trust-%d-%d.pem", c.tls.renewals, len(c.tls.trusted)))
	var text []byte
	for _, a := range c.tls.trusted {
		text = append(text, certificatePEM(a.cert.Raw)...)
	}
	certPEM, keyPEM, err := c.tls.sign(clientTemplate(SuperUser))
	if err == nil {
		err = replace(trust, text)
	}
	c.tls.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.reconfigure(t, "truststore.location", trust)
	probe, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	c.await(t, "trust in the new authority", func(addr string) error {
		config := c.tls.clientConfig()
		config.Certificates = []tls.Certificate{probe}
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DialTLSConfig(config), kgo.RequestRetries(0))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return cl.Ping(ctx)
	})
}

// await waits until connections to each of the brokers are what they should be.
func (c *Cluster) await(t testing.TB, what string, check func(addr string) error) {
	t.Helper()
	for _, b := range c.brokers {
		for good := 0; good < networkThreads; {
			WaitFor(t, renewTimeout, what, func() (bool, string) {
				if err := check(b.Addr()); err != nil {
					good = 0
					return false, err.Error()
				}
				good++
				return true, ""
			})
		}
	}
}

// reconfigure sets a config of the client listener's TLS at all brokers. They read a file again
// only if its name changes.
func (c *Cluster) reconfigure(t testing.TB, key, value string) {
	t.Helper()
	ids := make([]int32, 0, len(c.brokers))
	for _, b := range c.brokers {
		ids = append(ids, int32(b.ID()))
	}
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "listener.name.client.ssl." + key, Value: &value}}
	results, err := kadm.NewClient(c.Client(t)).AlterBrokerConfigs(t.Context(), set, ids...)
	for _, r := range results {
		if err == nil && r.Err != nil {
			err = fmt.Errorf("%w: %s", r.Err, r.ErrMessage)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
