package kafkatest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// JavaStores makes, with Java's keytool, a key store with the certificate of a user and a trust
// store with the authorities of [Cluster.CAFile]. kind is JKS or PKCS12. It returns
// [Cluster.ClientProperties] with these stores; they live as long as the test. Only with
// [MutualTLS] or [ClientAuth].
func (c *Cluster) JavaStores(t testing.TB, kind, user, password string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	keytool := func(store string, args ...string) {
		t.Helper()
		args = append(args, "-noprompt", "-storetype", kind, "-keystore", file(store), "-storepass", password)
		if out, err := exec.CommandContext(t.Context(), "keytool", args...).CombinedOutput(); err != nil {
			t.Fatalf("keytool %v: %v\n%s", args, err, out)
		}
	}
	keytool("keystore", "-genkeypair", "-alias", "own", "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN="+user, "-keypass", password)
	keytool("keystore", "-certreq", "-alias", "own", "-file", file("request"))
	text, err := os.ReadFile(file("request"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c.tls.mu.Lock()
	chain, err := c.tls.authority.sign(clientTemplate(user), request.PublicKey)
	chain = append(chain, certificatePEM(c.tls.authority.cert.Raw)...)
	trusted := c.tls.trusted
	c.tls.mu.Unlock()
	if err == nil {
		err = os.WriteFile(file("chain"), chain, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	keytool("keystore", "-importcert", "-alias", "own", "-file", file("chain"))
	for i, a := range trusted {
		authority := file(fmt.Sprintf("authority-%d", i))
		if err := os.WriteFile(authority, certificatePEM(a.cert.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		keytool("truststore", "-importcert", "-alias", filepath.Base(authority), "-file", authority)
	}

	props := c.ClientProperties(user, password)
	for _, store := range []string{"truststore", "keystore"} {
		props["ssl."+store+".type"], props["ssl."+store+".location"], props["ssl."+store+".password"] = kind, file(store), password
	}
	return props
}
