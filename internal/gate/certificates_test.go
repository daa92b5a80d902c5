package gate

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

// A client with a certificate is at the broker whom the map names, and nobody else.
func TestCertificatesAreMapped(t *testing.T) {
	w := newWorld(t, settings{tls: true, required: true, rules: "RULE:^CN=(.*?),OU=data$/$1/L,DEFAULT"},
		entry("User:alice", destinationUser, destinationPassword), entry("User:CN=bob", "dest-bob", "dest-bob-secret"),
		entry("User:wrong", refusedUser, "other-secret"))

	alice := w.client(w.named("Alice", "data"), nil)
	require.NoError(t, w.produce(alice, "orders"))
	require.ErrorIs(t, w.produce(alice, "secret"), kerr.TopicAuthorizationFailed, "alice has klink's rights")
	require.ErrorIs(t, w.produce(w.client(w.named("bob", ""), nil), "orders"), kerr.TopicAuthorizationFailed)

	// The TLS library of a client without an entry says so, whichever version it speaks.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := w.named("carol", "data")
		config.MaxVersion = version
		err := w.reach(w.client(config, nil))
		require.ErrorContains(t, err, "tls: bad certificate")
	}
	require.Contains(t, w.log.String(), `the credential map has no entry for \"User:carol\"`)

	// A password that the broker refuses is nobody's business.
	require.Error(t, w.reach(w.client(w.named("wrong", "data"), nil)))
	require.Contains(t, w.log.String(), `the broker refused what the credential map has for the client \"User:wrong\"`)
}

// Certificates that the authority has not signed, or that have run out, get nobody in, even if they
// have the right name.
func TestForeignCertificates(t *testing.T) {
	w := newWorld(t, settings{tls: true, required: true}, entry("User:CN=alice", destinationUser, destinationPassword), entry(anonymous, destinationUser, destinationPassword))
	alice := func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "alice"} }
	require.NoError(t, w.produce(w.client(w.showing(w.ca.issue(t, alice)), nil), "orders"))
	other := newAuthority(t)
	for name, config := range map[string]*tls.Config{
		"of another authority": w.showing(other.issue(t, alice)),
		"expired": w.showing(w.ca.issue(t, func(c *x509.Certificate) {
			alice(c)
			c.NotAfter = time.Now().Add(-time.Minute)
		})),
		"not valid yet": w.showing(w.ca.issue(t, func(c *x509.Certificate) {
			alice(c)
			c.NotBefore = time.Now().Add(time.Minute)
		})),
		"of a server": w.showing(w.ca.issue(t, func(c *x509.Certificate) {
			alice(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})),
		"none": w.showing(),
		"with a newline": w.showing(w.ca.issue(t, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "alice\nUser:CN=alice"}
		})),
		"that quotes a rule": w.showing(w.ca.issue(t, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: `alice",CN=alice`}
		})),
	} {
		require.Error(t, w.reach(w.client(config, nil)), name)
	}
	require.NotContains(t, w.log.String(), "\nUser:")

	// Another authority takes over while klink runs.
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "ca.pem"), other.pem, 0o600))
	require.NoError(t, w.produce(w.client(w.showing(other.issue(t, alice)), nil), "orders"))
	require.Error(t, w.reach(w.client(w.showing(w.ca.issue(t, alice)), nil)))
}

// Who shows no certificate is ANONYMOUS, which gets in only if the map says so.
func TestRequestedCertificates(t *testing.T) {
	w := newWorld(t, settings{tls: true}, entry("User:CN=alice", destinationUser, destinationPassword))
	require.NoError(t, w.produce(w.client(w.named("alice", ""), nil), "orders"))
	require.ErrorContains(t, w.reach(w.client(w.showing(), nil)), "tls: bad certificate")
	w.writeMap(entry(anonymous, destinationUser, destinationPassword))
	require.Eventually(t, func() bool { return w.reach(w.client(w.showing(), nil)) == nil }, 30*time.Second, 10*time.Millisecond)
}

// A connection ends soon after the entry that it was made with.
func TestTheMapRevokes(t *testing.T) {
	w := newWorld(t, settings{tls: true, required: true}, entry("User:CN=alice", destinationUser, destinationPassword), entry("User:CN=bob", destinationUser, destinationPassword))
	alice, bob := w.client(w.named("alice", ""), nil), w.client(w.named("bob", ""), nil)
	require.NoError(t, w.produce(alice, "orders"))
	require.NoError(t, w.produce(bob, "orders"))
	before := w.proxy.Stats().Connections.Load()
	require.Positive(t, before)

	// A map that cannot be read changes nothing.
	w.writeMap("User:CN=alice: [")
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "line 1: invalid YAML") }, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, w.produce(alice, "orders"))

	w.writeMap(entry("User:CN=bob", destinationUser, destinationPassword))
	require.Eventually(t, func() bool { return w.reach(alice) != nil }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(w.log.String(), "the credential map has no such entry for its principal any more")
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, w.produce(bob, "orders"))
	w.writeMap()
	require.Eventually(t, func() bool { return w.reach(bob) != nil }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return w.proxy.Stats().Connections.Load() == 0 }, 30*time.Second, 10*time.Millisecond)
}
