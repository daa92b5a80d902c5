package users

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

const (
	// DefaultIterations is how often a password is hashed unless one says otherwise.
	DefaultIterations = 8192
	// MinIterations and MaxIterations are Kafka's bounds (KIP-554).
	MinIterations = 4096
	MaxIterations = 16384
)

// Mechanisms are the SCRAM mechanisms that a user can have a credential for.
var Mechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}

// Credential is what a server stores of a password.
type Credential struct {
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// Hash returns the hash function of a SCRAM mechanism, nil if it is none.
func Hash(mechanism string) func() hash.Hash {
	switch mechanism {
	case "SCRAM-SHA-256":
		return sha256.New
	case "SCRAM-SHA-512":
		return sha512.New
	}
	return nil
}

// MAC returns the HMAC of the parts, by the hash function of a mechanism.
func MAC(h func() hash.Hash, key []byte, parts ...[]byte) []byte {
	m := hmac.New(h, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func (c *Credential) check(mechanism string) error {
	h := Hash(mechanism)
	switch {
	case h == nil:
		return errors.New("is no SCRAM mechanism")
	case c == nil || len(c.Salt) < 8 || len(c.Salt) > 1024:
		return errors.New("the salt is missing or has an impossible length")
	case c.Iterations < MinIterations || c.Iterations > MaxIterations:
		return fmt.Errorf("%d iterations are not from %d to %d", c.Iterations, MinIterations, MaxIterations)
	case len(c.StoredKey) != h().Size() || len(c.ServerKey) != h().Size():
		return errors.New("a key has not the length of the hash")
	}
	return nil
}

func derive(mechanism, password string, salt []byte, iterations int) (*Credential, error) {
	h := Hash(mechanism)
	if h == nil {
		return nil, fmt.Errorf("%s is no SCRAM mechanism", mechanism)
	}
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return nil, err
	}
	stored := h()
	stored.Write(MAC(h, salted, []byte("Client Key")))
	c := &Credential{
		Iterations: iterations, Salt: salt, StoredKey: stored.Sum(nil), ServerKey: MAC(h, salted, []byte("Server Key")),
	}
	return c, c.check(mechanism)
}

// Lookup returns the credential of a user, and whether there is one. If not, it is one that no
// password fits, and looks like that of a user who exists: it is always the same for a name, and
// takes the same work.
func (t *Table) Lookup(name, mechanism string) (c *Credential, known bool) {
	c = t.pretend(name, mechanism, mechanism)
	if real, ok := t.Users[name][mechanism]; ok {
		return real, true
	}
	return c, false
}

// pretend makes the credential of a user that does not exist. It is hashed like that of one who
// does: among those of a kind, which is a key of hashes.
func (t *Table) pretend(name, mechanism, kind string) *Credential {
	mac := func(of string) []byte {
		return MAC(Hash(mechanism), t.Secret, []byte(mechanism), []byte{0}, []byte(of), []byte{0}, []byte(name))
	}
	c := &Credential{Iterations: t.like(name, kind).iterations, Salt: mac("salt")[:32], StoredKey: mac("stored key"), ServerKey: mac("server key")}
	return c
}

// like returns how the password of a user that does not exist is hashed.
func (t *Table) like(name, kind string) hashing {
	all := t.hashes[kind]
	if len(all) == 0 {
		return hashing{Mechanisms[0], DefaultIterations}
	}
	pick := MAC(sha256.New, t.Secret, []byte("like"), []byte{0}, []byte(name))
	return all[binary.BigEndian.Uint64(pick)%uint64(len(all))]
}

// Check reports whether a password is that of a user. It takes as long for users that do not exist.
// It computes for some milliseconds.
func (t *Table) Check(name, password string) bool {
	mechanism := t.like(name, "").mechanism
	credentials, known := t.Users[name]
	c := t.pretend(name, mechanism, "")
	if known {
		mechanism = first(credentials)
		c = credentials[mechanism]
	}
	tried, err := derive(mechanism, password, c.Salt, c.Iterations)
	return err == nil && known && subtle.ConstantTimeCompare(tried.StoredKey, c.StoredKey) == 1
}
