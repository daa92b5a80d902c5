package store

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const blockEncrypted = "ENCRYPTED PRIVATE KEY"

// ErrEncrypted refuses a private key that needs a password, where none is given.
var ErrEncrypted = errors.New("the private key is encrypted")

// trustPEM returns the certificates of PEM text. Like Go's own reader it skips what it cannot read.
func trustPEM(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no valid PEM certificate in it")
	}
	return certs, nil
}

// KeyPEM returns the first private key of one PEM text with the certificates of another; they may
// be the same. password opens an encrypted key.
func KeyPEM(chain, key []byte, password string) (tls.Certificate, error) {
	if len(password) > maxPassword {
		return tls.Certificate{}, errLongPassword
	}
	block := keyBlock(key)
	if block == nil {
		return tls.Certificate{}, errors.New("no private key in the PEM text")
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return tls.Certificate{}, errors.New("the private key is encrypted in the old way of OpenSSL (Proc-Type: 4,ENCRYPTED), which is not supported: " +
			"convert it with `openssl pkcs8 -topk8 -in KEY -out key.pem`")
	}
	if block.Type == blockEncrypted {
		opened, err := openPKCS8(block.Bytes, password, newRounds())
		if err != nil {
			return tls.Certificate{}, err
		}
		block = &pem.Block{Type: "PRIVATE KEY", Bytes: opened}
	}
	if len(block.Bytes) > maxKey {
		return tls.Certificate{}, fmt.Errorf("the private key is larger than %d bytes", maxKey)
	}
	cert, err := tls.X509KeyPair(chain, pem.EncodeToMemory(block))
	if err != nil {
		return tls.Certificate{}, err // it mentions types of blocks and keys, no content
	}
	return cert, bounded(cert.Leaf)
}

// keyBlock returns the block that tls.X509KeyPair would take for the key; nil = none.
func keyBlock(text []byte) *pem.Block {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return block
		}
	}
	return nil
}

// openPKCS8 decrypts an EncryptedPrivateKeyInfo of PKCS #8.
func openPKCS8(der []byte, password string, left *rounds) ([]byte, error) {
	if password == "" {
		return nil, fmt.Errorf("%w: set ssl.key.password", ErrEncrypted)
	}
	var sealed encryptedKey
	if unmarshal(der, &sealed) != nil {
		return nil, errors.New("the encrypted private key is damaged")
	}
	opened, err := sealed.open(password, left)
	if errors.Is(err, errPassword) {
		err = errors.New("the private key does not open with ssl.key.password, or is damaged")
	}
	return opened, err
}
