package kafkaclient

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// place writes a file as programs that renew certificates do: beside it first, then in its place.
func place(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// logged returns what goes to the log until the end of the test.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	was, log := slog.Default(), &bytes.Buffer{}
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(was) })
	return log
}

// A client takes a new authority and a new certificate, one after the other, without being made
// anew; what is no use changes nothing, and is told once.
func TestFilesThatChange(t *testing.T) {
	log := logged(t)
	oldPEM, oldKey := certificate(t, "127.0.0.1")
	newPEM, newKey := certificate(t, "127.0.0.1")
	before, after := tlsCluster(t, oldPEM, oldKey, nil), tlsCluster(t, newPEM, newKey, nil)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	place(t, ca, oldPEM)
	place(t, cert, oldPEM)
	place(t, key, oldKey)
	p := Properties{
		"security.protocol": "SSL", "ssl.truststore.location": ca, "ssl.certificate.location": cert, "ssl.key.location": key,
	}
	config, err := p.liveTLS(operatorFiles)
	require.NoError(t, err)
	reaches := func(addr string) bool {
		conn, err := tls.Dial("tcp", addr, config())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	first := config()
	require.Same(t, first, config())
	require.True(t, reaches(before))
	require.False(t, reaches(after))

	place(t, ca, oldPEM) // another file, but the same
	require.Same(t, first, config())
	for _, useless := range []string{"", string(newPEM[:len(newPEM)/2]), strings.Repeat("x", maxStore+1)} {
		place(t, ca, []byte(useless))
		require.Same(t, first, config())
	}
	require.NoError(t, os.Remove(ca))
	require.Same(t, first, config())
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "%s", log)
	require.Contains(t, log.String(), "ssl.truststore.location")

	place(t, ca, append(append([]byte{}, oldPEM...), newPEM...))
	require.True(t, reaches(before))
	require.True(t, reaches(after))
	require.Contains(t, log.String(), "can be used again")
	place(t, ca, newPEM)
	require.False(t, reaches(before))
	require.True(t, reaches(after))

	place(t, cert, newPEM) // without its key
	require.Equal(t, first.Certificates[0].Certificate, config().Certificates[0].Certificate)
	require.Equal(t, 2, strings.Count(log.String(), "level=WARN"), "%s", log)
	require.NotContains(t, log.String(), "PRIVATE")
	place(t, key, newKey)
	require.NotEqual(t, first.Certificates[0].Certificate, config().Certificates[0].Certificate)
}

// Kubernetes puts a new directory in place of the old one behind a symbolic link. Links may use
// such files too.
func TestFilesBehindALinkThatIsSwapped(t *testing.T) {
	oldPEM, _ := certificate(t, "127.0.0.1")
	newPEM, newKey := certificate(t, "127.0.0.1")
	addr := tlsCluster(t, newPEM, newKey, nil)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"..1": oldPEM, "..2": newPEM} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "ca.pem"), content, 0o600))
	}
	data, ca := filepath.Join(dir, "..data"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.Symlink("..1", data))
	require.NoError(t, os.Symlink("..data/ca.pem", ca))
	links, err := LinkFiles([]string{dir})
	require.NoError(t, err)
	var configs []func() *tls.Config
	for _, files := range []Files{operatorFiles, links} {
		config, err := Properties{"security.protocol": "SSL", "ssl.truststore.location": ca}.liveTLS(files)
		require.NoError(t, err)
		_, err = tls.Dial("tcp", addr, config())
		require.Error(t, err)
		configs = append(configs, config)
	}
	require.NoError(t, os.Symlink("..2", data+".new"))
	require.NoError(t, os.Rename(data+".new", data))
	for _, config := range configs {
		conn, err := tls.Dial("tcp", addr, config())
		require.NoError(t, err)
		_ = conn.Close()
	}
	// A link may not follow the file out of its directories later, either.
	log, was := logged(t), configs[1]()
	outside := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(outside, oldPEM, 0o600))
	require.NoError(t, os.Remove(ca))
	require.NoError(t, os.Symlink(outside, ca))
	require.Same(t, was, configs[1]())
	require.Contains(t, log.String(), ErrFile.Error())
}

// A file whose size and time of change stay the same, because both changes fall into one step of
// the file system's clock, is noticed while it is young.
func TestTwoChangesAtOneTime(t *testing.T) {
	oldPEM, oldKey := certificate(t, "127.0.0.1")
	path := filepath.Join(t.TempDir(), "store.pem")
	store := append(append([]byte{}, oldPEM...), oldKey...)
	place(t, path, store)
	config, err := Properties{"security.protocol": "SSL", "ssl.keystore.location": path}.liveTLS(operatorFiles)
	require.NoError(t, err)
	first := config()
	info, err := os.Stat(path)
	require.NoError(t, err)
	newPEM, newKey := certificate(t, "127.0.0.1")
	for len(newPEM)+len(newKey) < len(store) {
		newKey = append(newKey, '\n')
	}
	for len(newPEM)+len(newKey) > len(store) {
		store = append(store, '\n')
	}
	require.NoError(t, os.WriteFile(path, append(newPEM, newKey...), 0o600)) // the same file
	require.NoError(t, os.Chtimes(path, time.Time{}, info.ModTime()))
	require.NotSame(t, first, config())
}

// What can be read only once, as a pipe of a shell, is read once.
func TestPipesAreReadOnce(t *testing.T) {
	certPEM, keyPEM := certificate(t, "127.0.0.1")
	dir := t.TempDir()
	pipe, store := filepath.Join(dir, "ca"), filepath.Join(dir, "store.pem")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	place(t, store, append(append([]byte{}, certPEM...), keyPEM...))
	go func() { _ = os.WriteFile(pipe, certPEM, 0o600) }()
	config, err := Properties{
		"security.protocol": "SSL", "ssl.truststore.location": pipe, "ssl.keystore.location": store,
	}.liveTLS(operatorFiles)
	require.NoError(t, err)
	first := config()
	otherPEM, otherKey := certificate(t, "127.0.0.1")
	place(t, store, append(append([]byte{}, otherPEM...), otherKey...))
	require.NotEqual(t, first.Certificates[0].Certificate, config().Certificates[0].Certificate)
	require.True(t, first.RootCAs.Equal(config().RootCAs))
}

// Clients that connect while klink's certificate changes get the old or the new one; those that are
// connected stay so.
func TestServerCertificateChanges(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	oldPEM, oldKey := certificate(t, "127.0.0.1")
	newPEM, newKey := certificate(t, "127.0.0.1")
	place(t, certFile, oldPEM)
	place(t, keyFile, oldKey)
	_, err := ServerTLS(certFile, filepath.Join(dir, "missing"))
	require.ErrorContains(t, err, "missing")
	_, err = ServerTLS(filepath.Join("store", "testdata", "client.pem"), filepath.Join("store", "testdata", "client-aes256.key"))
	require.ErrorContains(t, err, "the private key is encrypted: klink has no setting for its password")
	config, err := ServerTLS(certFile, keyFile)
	require.NoError(t, err)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	trust := func(pem ...[]byte) *tls.Config {
		both, err := Properties{"security.protocol": "SSL", "ssl.truststore.certificates": string(bytes.Join(pem, nil))}.liveTLS(operatorFiles)
		require.NoError(t, err)
		return both()
	}
	echo := func(conn net.Conn) error {
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err
	}
	early, err := tls.Dial("tcp", ln.Addr().String(), trust(oldPEM))
	require.NoError(t, err)
	defer early.Close()

	var clients sync.WaitGroup
	failures := make(chan error, 100)
	stop, either := make(chan struct{}), trust(oldPEM, newPEM)
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.Dial("tcp", ln.Addr().String(), either)
				if err == nil {
					err = echo(conn)
					_ = conn.Close()
				}
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	for range 20 {
		place(t, certFile, newPEM)
		place(t, keyFile, newKey)
		conn, err := tls.Dial("tcp", ln.Addr().String(), trust(newPEM))
		require.NoError(t, err)
		_ = conn.Close()
		place(t, keyFile, oldKey)
		place(t, certFile, oldPEM)
		conn, err = tls.Dial("tcp", ln.Addr().String(), trust(oldPEM))
		require.NoError(t, err)
		_ = conn.Close()
	}
	close(stop)
	clients.Wait()
	require.Empty(t, failures)
	require.NoError(t, echo(early))
}
