package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// secretsKeySize is the length of an AES-256 key in bytes.
const secretsKeySize = 32

// SecretsKey seals sensitive link configs with AES-256-GCM before they go to the state topic.
//
// Invariants:
//  1. The key itself never leaves memory; its id is a hash and reveals nothing about it.
//  2. What was sealed for one link and config does not open for another: both names are
//     authenticated with it.
type SecretsKey struct {
	id   string
	aead cipher.AEAD
}

// Sealed is a secret at rest. The nonce stands before the ciphertext in Data.
type Sealed struct {
	KeyID string `json:"key_id"`
	Data  []byte `json:"data"`
}

// LoadSecretsKey reads a key file: 32 bytes in base64 or hex, white space around them ignored.
// `openssl rand -base64 32` makes one. The error names the file, never its content.
func LoadSecretsKey(path string) (*SecretsKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("could not read the secrets key file: %w", err)
	}
	k, err := ParseSecretsKey(string(raw))
	if err != nil {
		return nil, fmt.Errorf("secrets key file %s: %w", path, err)
	}
	return k, nil
}

// ParseSecretsKey parses the content of a key file; see LoadSecretsKey.
func ParseSecretsKey(text string) (*SecretsKey, error) {
	text = strings.TrimSpace(text)
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == secretsKeySize {
			return newSecretsKey(key)
		}
	}
	return nil, errors.New("must hold 32 random bytes in base64 or hex; make one with: openssl rand -base64 32")
}

func newSecretsKey(key []byte) (*SecretsKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append([]byte("klink secrets key id\x00"), key...))
	return &SecretsKey{id: hex.EncodeToString(id[:8]), aead: aead}, nil
}

// ID names the key in records and errors.
func (k *SecretsKey) ID() string { return k.id }

// Seal encrypts the value of a config of a link.
func (k *SecretsKey) Seal(link, config, secret string) Sealed {
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // crypto/rand.Read never fails
	return Sealed{KeyID: k.id, Data: k.aead.Seal(nonce, nonce, []byte(secret), secretOwner(link, config))}
}

// Open returns the secret, or an error that says which key is needed. A nil key opens nothing.
func (k *SecretsKey) Open(link, config string, s Sealed) (string, error) {
	if k == nil {
		return "", fmt.Errorf("%s of link %q is encrypted with the key %s: start klink with --secrets-key-file and that key", config, link, shownKeyID(s.KeyID))
	}
	if s.KeyID != k.id {
		return "", fmt.Errorf("%s of link %q is encrypted with the key %s, but --secrets-key-file has the key %s: start klink with the first key, or set %s again", config, link, shownKeyID(s.KeyID), k.id, config)
	}
	n := k.aead.NonceSize()
	if len(s.Data) < n {
		return "", fmt.Errorf("%s of link %q is damaged in the state topic: set it again", config, link)
	}
	secret, err := k.aead.Open(nil, s.Data[:n], s.Data[n:], secretOwner(link, config))
	if err != nil {
		return "", fmt.Errorf("%s of link %q is damaged in the state topic: set it again", config, link)
	}
	return string(secret), nil
}

// secretOwner returns the data that is authenticated with a secret. Neither name contains a slash.
func secretOwner(link, config string) []byte { return []byte("link/" + link + "/" + config) }

// shownKeyID bounds what a damaged record can put into a message.
func shownKeyID(id string) string {
	if len(id) > 16 {
		id = id[:16]
	}
	return fmt.Sprintf("%q", id)
}
