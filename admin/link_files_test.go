package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

// keyPair is a certificate with its private key, in PEM.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// TestLinksNameNoFilesOfKlink: a user who may create or alter links learns nothing about the files
// on klink's machine, and cannot make klink read an endless file or wait for a pipe.
func TestLinksNameNoFilesOfKlink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	cert, key := keyPair(t)
	file := func(dir, name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Symlink(to, path))
		return path
	}
	ca := file(dir, "ca.pem", cert)
	own := file(elsewhere, "klink.pem", key+cert)
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	inside := link("inside.pem", "ca.pem")
	absolute := link("absolute.pem", ca)
	refused := []string{
		"/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/mem", "/etc/passwd", own, fifo, "ca.pem", "../" + filepath.Base(elsewhere) + "/klink.pem",
		filepath.Join(dir, "missing.pem"), filepath.Join(elsewhere, "missing.pem"), dir, filepath.Join(dir, "sub"),
		dir + "/../" + filepath.Base(elsewhere) + "/klink.pem", dir + "/sub/../../" + filepath.Base(elsewhere) + "/klink.pem",
		link("out.pem", own), link("out", elsewhere) + "/klink.pem", link("zero", "/dev/zero"), link("loop", "loop"), link("pipe", fifo),
		file(dir, "large.pem", cert+strings.Repeat("#", 1<<20)), dir + "-not/ca.pem",
	}
	for _, allowed := range []bool{false, true} {
		var files kafkaclient.Files
		if allowed {
			var err error
			files, err = kafkaclient.LinkFiles([]string{dir})
			require.NoError(t, err)
		}
		w := newWorld(t, func(c *Config) { c.LinkFiles = files })
		require.Zero(t, w.link("there").ErrorCode)
		texts := map[string]bool{}
		try := func(config, path string) {
			created := w.link("l", "security.protocol=SSL", config+"="+path)
			require.Equal(t, kerr.InvalidConfig.Code, created.ErrorCode, "%s=%s", config, path)
			altered := alterLinkAt(w.service, true, "there", setConfig("security.protocol", "SSL"), setConfig(config, path))
			require.Equal(t, kerr.InvalidConfig.Code, altered.ErrorCode, "%s=%s", config, path)
			require.NotContains(t, text(created.ErrorMessage), path)
			texts[strings.Replace(text(created.ErrorMessage), config, "CONFIG", 1)] = true
			texts[strings.Replace(text(altered.ErrorMessage), config, "CONFIG", 1)] = true
		}
		for _, config := range []string{"ssl.truststore.location", "ssl.ca.location", "ssl.keystore.location"} {
			for _, path := range refused {
				try(config, path)
			}
			if !allowed {
				try(config, ca)
				try(config, inside)
			}
		}
		require.Len(t, texts, 1, "one error text, so that it tells nothing: %v", texts)
		for message := range texts {
			require.Contains(t, message, "--link-file-directories")
		}
		if allowed {
			for _, path := range []string{ca, inside, absolute, dir + "/./ca.pem"} {
				configs := map[string]string{linkconfig.ConfigBootstrapServers: "a:1", "security.protocol": "SSL", "ssl.truststore.location": path}
				require.Nil(t, linkconfig.Validate(configs, files), path)
			}
		}
		// PEM text in the config itself works as before.
		require.Nil(t, linkconfig.Validate(map[string]string{linkconfig.ConfigBootstrapServers: "a:1", "security.protocol": "SSL", "ssl.truststore.certificates": cert}, files))
	}
}
