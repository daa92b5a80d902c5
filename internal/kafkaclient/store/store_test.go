package store

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	secret    = "changeit"
	oddSecret = `pä€😀 "x`
)

// testdata/make.sh says how the stores were made.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return content
}

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(fixture(t, name+".pem"))
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

func TestTrust(t *testing.T) {
	root, other := []string{"root"}, []string{"root", "other"}
	for _, c := range []struct {
		file, kind, password string
		want                 []string
	}{
		{"trust.jks", JKS, secret, other},
		{"trust.jks", "", "", other}, // as in Java, the password only protects from changes
		{"trust.jks", PKCS12, secret, other},
		{"trust.pkcs12", PKCS12, secret, other},
		{"trust.pkcs12", "", secret, other},
		{"trust.pkcs12", JKS, secret, other}, // keytool calls it so
		{"trust-legacy.pkcs12", "", secret, root},
		{"trust-no-password.pkcs12", "", "", root},
		{"trust-no-password.pkcs12", "", secret, root},
		{"openssl-trust.p12", "", secret, other},
		{"both.jks", "", secret, []string{"client", "other"}},
		{"both.pkcs12", "", secret, []string{"client", "other"}},
		{"key.jks", "", secret, []string{"client"}},
		{"key.pkcs12", "", secret, []string{"client"}},
		{"openssl-legacy.p12", "", secret, []string{"client"}},
		{"openssl-no-password.p12", "", "", []string{"client"}},
		{"root.pem", PEM, "", root},
	} {
		t.Run(c.file+" "+c.kind, func(t *testing.T) {
			pool, err := Trust(fixture(t, c.file), c.kind, c.password)
			require.NoError(t, err)
			want := x509.NewCertPool()
			for _, name := range c.want {
				want.AddCert(certificate(t, name))
			}
			require.True(t, want.Equal(pool))
		})
	}
}

func TestKey(t *testing.T) {
	for _, c := range []struct {
		file, kind, password, keyPassword string
		chain                             int
	}{
		{"key.jks", JKS, secret, "", 3},
		{"key.jks", "", "", secret, 3},
		{"key.pkcs12", PKCS12, secret, "", 3},
		{"key.pkcs12", "", secret, secret, 3},
		{"key-password.jks", "", secret, "keypass", 3},
		{"key-legacy.pkcs12", "", secret, "", 3},
		{"both.jks", "", secret, "", 3},
		{"both.pkcs12", "", secret, "", 3},
		{"openssl.p12", "", secret, "", 3},
		{"openssl-legacy.p12", "", secret, "", 3},
		{"openssl-plain.p12", "", "", "", 3},
		{"openssl-plain.p12", "", secret, "", 3},
		{"openssl-no-password.p12", "", "", "", 1},
		{"odd-password.jks", "", oddSecret, "", 3},
		{"odd-password.p12", "", oddSecret, "", 1},
		{"pbmac1.p12", "", secret, "", 1},
	} {
		t.Run(c.file, func(t *testing.T) {
			cert, err := Key(fixture(t, c.file), c.kind, c.password, c.keyPassword)
			require.NoError(t, err)
			require.Len(t, cert.Certificate, c.chain)
			require.True(t, cert.Leaf.Equal(certificate(t, "client")))
		})
	}
	_, err := Key(fixture(t, "openssl-rsa.p12"), "", secret, "")
	require.NoError(t, err)
}

func TestKeyPEM(t *testing.T) {
	chain := fixture(t, "client.pem")
	for _, name := range []string{"client", "client-aes256", "client-aes128-sha512", "client-3des", "client-pkcs12-3des"} {
		cert, err := KeyPEM(chain, fixture(t, name+".key"), secret)
		require.NoError(t, err, name)
		require.True(t, cert.Leaf.Equal(certificate(t, "client")))
		_, err = Key(append(fixture(t, name+".key"), chain...), PEM, "", secret)
		require.NoError(t, err, name)
	}
}

// What is refused says why, and never shows a password.
func TestRefused(t *testing.T) {
	trust := func(file, kind, password string) func() error {
		return func() error {
			_, err := Trust(fixture(t, file), kind, password)
			return err
		}
	}
	key := func(file, kind, password, keyPassword string) func() error {
		return func() error {
			_, err := Key(fixture(t, file), kind, password, keyPassword)
			return err
		}
	}
	keyPEM := func(file, password string) func() error {
		return func() error {
			_, err := KeyPEM(fixture(t, "client.pem"), fixture(t, file), password)
			return err
		}
	}
	for _, c := range []struct {
		do   func() error
		want string
	}{
		{trust("trust.jks", "", "wrong-hush"), "the password is wrong"},
		{trust("trust.pkcs12", "", "wrong-hush"), "the password is wrong"},
		{trust("trust.pkcs12", "", ""), "encrypted: set ssl.truststore.password"},
		{trust("trust.jks", PEM, ""), "its type is set to PEM, but this is a JKS store"},
		{trust("root.pem", JKS, ""), "its type is set to JKS, but this is PEM text"},
		{trust("root.pem", PKCS12, ""), "its type is set to PKCS12, but this is PEM text"},
		{trust("key.jceks", "", secret), "JCEKS store, which is not supported"},
		{trust("client.key", "", ""), "no valid PEM certificate"},
		{trust("make.sh", PEM, ""), "no PEM text"},
		{trust("make.sh", "", ""), "neither PEM text nor a JKS or PKCS12 store"},
		{trust("trust.jks", "", strings.Repeat("hush", 1025)), "longer than 4096 bytes"},
		{key("key.jks", "", "wrong-hush", ""), "the password is wrong"},
		{key("key.jks", "", secret, "wrong-hush"), "set ssl.key.password"},
		{key("key.jks", "", "", ""), "encrypted: set ssl.keystore.password"},
		{key("key-password.jks", "", secret, ""), "set ssl.key.password"},
		{key("key.pkcs12", "", "wrong-hush", ""), "the password is wrong"},
		{key("key.pkcs12", "", secret, "wrong-hush"), "set ssl.key.password"},
		{key("key.pkcs12", "", "", ""), "encrypted: set ssl.keystore.password"},
		{key("trust.jks", "", secret, ""), "no private key in it"},
		{key("trust.pkcs12", "", secret, ""), "no private key in it"},
		{key("two.jks", "", secret, ""), `2 private keys are in it (`},
		{key("two.jks", "", secret, ""), `"zwei"`},
		{key("two.pkcs12", "", secret, ""), `"client", "zwei"`},
		{key("client.pem", "", "", ""), "no private key in the PEM text"},
		{keyPEM("client-aes256.key", ""), "encrypted: set ssl.key.password"},
		{keyPEM("client-aes256.key", "wrong-hush"), "does not open with ssl.key.password"},
		{keyPEM("client-old.key", secret), "Proc-Type: 4,ENCRYPTED"},
		{keyPEM("client-scrypt.key", secret), "key derivation (1.3.6.1.4.1.11591.4.11) is not supported"},
		{keyPEM("client-md5.key", secret), "encryption (1.2.840.113549.1.5.3) is not supported"},
		{keyPEM("client-rounds.key", secret), "more than 2000000 rounds"},
	} {
		err := c.do()
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "hush")
		require.NotContains(t, err.Error(), secret)
	}
	for value, want := range map[string]string{"": "", " jks": JKS, "Pkcs12": PKCS12, "PEM": PEM} {
		got, err := Kind(value)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for value, want := range map[string]string{"bcfks": `"BCFKS" is not supported`, "username='hush'": "this type is not supported"} {
		_, err := Kind(value)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hush")
	}
}

// Any prefix of a store, and any store with a bit changed, is refused or read, without a panic, and
// the password tells what has changed.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"trust.jks", "key.jks", "openssl-legacy.p12", "openssl-plain.p12", "client-3des.key"} {
		content := fixture(t, name)
		read := func(b []byte) {
			_, _ = Trust(b, "", "")
			_, _ = Key(b, "", "", secret)
			_, _ = KeyPEM(b, b, secret)
		}
		step := 1
		if !strings.HasSuffix(name, ".jks") {
			step = 7 // each takes thousands of rounds of hashing
		}
		for i := 0; i < len(content); i += step {
			read(content[:i])
			changed := append([]byte{}, content...)
			changed[i] ^= 1 << (i % 8)
			read(changed)
			if strings.HasSuffix(name, ".jks") {
				_, err := Trust(changed, "", secret)
				require.Error(t, err, "%s: byte %d", name, i)
			}
		}
	}
}

func FuzzStores(f *testing.F) {
	files, err := os.ReadDir("testdata")
	require.NoError(f, err)
	for _, file := range files {
		if !file.IsDir() {
			f.Add(fixture(f, file.Name()), secret)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, password string) {
		if pool, err := Trust(content, "", password); err == nil {
			require.NotNil(t, pool)
		}
		for _, key := range []func() (tls.Certificate, error){
			func() (tls.Certificate, error) { return Key(content, "", password, "") },
			func() (tls.Certificate, error) { return Key(content, "", "", password) },
			func() (tls.Certificate, error) { return KeyPEM(content, content, password) },
		} {
			if cert, err := key(); err == nil {
				require.NotNil(t, cert.PrivateKey)
			}
		}
	})
}
