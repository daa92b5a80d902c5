package kafkaclient

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"klink/internal/kafkaclient/store"
)

// settled is how old a file has to be before its time of change tells it from what it becomes next:
// file systems count in steps, and two changes may fall into one.
const settled = 2 * time.Second

// reader returns the content of a file that a property names.
type reader func(name string) ([]byte, error)

// live is a TLS configuration that follows the files that it is made of. Whoever begins a handshake
// asks for it: then it looks at the files, and reads them again if one has changed. Connections
// that are open go on as they are.
//
// If the files cannot be used, the configuration stays as it was, and the log says so once. The
// next handshake tries again. So it does no harm that certificate and key change one after the
// other, or that a handshake finds a file half written.
type live struct {
	files Files
	build func(reader) (*tls.Config, error)

	mu      sync.Mutex
	config  *tls.Config
	seen    []seenFile        // what config was made of
	once    map[string][]byte // what can be read only once, as from a pipe
	trouble bool              // the log says that the files cannot be used
}

// seenFile is a file as it was just before it was read.
type seenFile struct {
	name    string
	info    os.FileInfo
	settled bool
	sum     [sha256.Size]byte
}

// liveConfig returns a function that returns what build makes of the files, as they are when it is
// called. It is nil if build returns none. The function is safe for concurrent use.
func liveConfig(files Files, build func(reader) (*tls.Config, error)) (func() *tls.Config, error) {
	l := &live{files: files, build: build, once: map[string][]byte{}}
	if err := l.load(); err != nil || l.config == nil {
		return nil, err
	}
	return l.current, nil
}

// current returns the configuration as the files are now. The lock is held while klink reads them:
// who begins a handshake after a change gets the new ones, and not what another one is replacing.
func (l *live) current() *tls.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if !l.fresh() {
		err = l.load()
	}
	switch {
	case err != nil && !l.trouble:
		slog.Warn("a file with certificates or keys has changed, and cannot be used: klink goes on with what it has read before", "error", err)
	case err == nil && l.trouble:
		slog.Info("the files with certificates and keys can be used again")
	}
	l.trouble = err != nil
	return l.config
}

// load reads the files and makes the configuration of them.
func (l *live) load() error {
	var seen []seenFile
	config, err := l.build(func(name string) ([]byte, error) {
		if content, ok := l.once[name]; ok {
			return content, nil
		}
		file, content, err := l.look(name)
		switch {
		case err != nil:
			return nil, err
		case file.info.Mode().IsRegular():
			seen = append(seen, file)
		default:
			l.once[name] = bytes.Clone(content)
		}
		return content, nil
	})
	if err != nil {
		return err
	}
	l.config, l.seen = config, seen
	return nil
}

// look reads a file. It looks at the file first, so that a change while it reads is seen later.
func (l *live) look(name string) (seenFile, []byte, error) {
	info, err := l.files.stat(name)
	if err != nil {
		return seenFile{}, nil, err
	}
	quiet := time.Since(info.ModTime()) > settled
	content, err := l.files.read(name)
	if err != nil {
		return seenFile{}, nil, err
	}
	return seenFile{name: name, info: info, settled: quiet, sum: sha256.Sum256(content)}, content, nil
}

// fresh reports whether the files still are what the configuration was made of.
func (l *live) fresh() bool {
	for i, was := range l.seen {
		info, err := l.files.stat(was.name)
		if err != nil {
			return false
		}
		if was.settled && os.SameFile(was.info, info) && was.info.Size() == info.Size() && was.info.ModTime().Equal(info.ModTime()) {
			continue
		}
		is, _, err := l.look(was.name)
		if err != nil || is.sum != was.sum {
			return false
		}
		l.seen[i] = is
	}
	return true
}

// ServerTLS returns the TLS configuration towards klink's clients, with a certificate chain and a
// private key from PEM files. Each handshake takes the files as they are then.
func ServerTLS(certFile, keyFile string) (*tls.Config, error) {
	config, err := liveConfig(operatorFiles, func(read reader) (*tls.Config, error) {
		chain, err := read(certFile)
		if err != nil {
			return nil, err
		}
		key, err := read(keyFile)
		if err != nil {
			return nil, err
		}
		cert, err := store.KeyPEM(chain, key, "")
		if errors.Is(err, store.ErrEncrypted) {
			err = fmt.Errorf("%w: klink has no setting for its password; decrypt it with `openssl pkey -in KEY -out key.pem`", store.ErrEncrypted)
		}
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &config().Certificates[0], nil },
	}, nil
}
