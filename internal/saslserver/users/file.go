// Package users keeps the passwords of clients that klink authenticates itself, in the form of
// SCRAM (RFC 5802): salted, and of no use for a login. The command `klink credentials` writes the
// file, and `klink serve` reads it again when it changes.
package users

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"klink/internal/follow"
)

const (
	// maxFile bounds the size of the file in bytes.
	maxFile = 64 << 20
	// maxName bounds the length of a user's name in bytes.
	maxName = 1024
)

// Table is the content of the file.
type Table struct {
	// Secret is what the salts of users that do not exist are made from, so that nobody can tell
	// them from others.
	Secret []byte `json:"secret"`
	// Users are by name, and have a credential for each mechanism.
	Users map[string]map[string]*Credential `json:"users"`

	// hashes are how the users' passwords are hashed, for users that do not exist: by mechanism,
	// and under "" the one that Check takes.
	hashes map[string][]hashing
}

// hashing is a way to hash a password.
type hashing struct {
	mechanism  string
	iterations int
}

// New returns a table without users.
func New() *Table {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return &Table{Secret: secret, Users: map[string]map[string]*Credential{}}
}

// Parse reads a table.
func Parse(text []byte) (*Table, error) {
	t := &Table{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, errors.New("not a file of `klink credentials`")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text behind the end")
	}
	if len(t.Secret) < 16 {
		return nil, errors.New("the secret is missing or too short")
	}
	if t.Users == nil {
		t.Users = map[string]map[string]*Credential{}
	}
	for name, credentials := range t.Users {
		if err := CheckName(name); err != nil {
			return nil, err
		}
		for mechanism, c := range credentials {
			if err := c.check(mechanism); err != nil {
				return nil, fmt.Errorf("user %q: %s: %w", name, mechanism, err)
			}
		}
		if len(credentials) == 0 {
			return nil, fmt.Errorf("user %q has no credential", name)
		}
	}
	t.count()
	return t, nil
}

// count notes how the passwords are hashed, in an order that depends on nothing else.
func (t *Table) count() {
	t.hashes = map[string][]hashing{}
	for _, credentials := range t.Users {
		of := first(credentials)
		t.hashes[""] = append(t.hashes[""], hashing{of, credentials[of].Iterations})
		for mechanism, c := range credentials {
			t.hashes[mechanism] = append(t.hashes[mechanism], hashing{mechanism, c.Iterations})
		}
	}
	for _, all := range t.hashes {
		slices.SortFunc(all, func(a, b hashing) int {
			return cmp.Or(strings.Compare(a.mechanism, b.mechanism), a.iterations-b.iterations)
		})
	}
}

// first returns the mechanism by whose credential Check checks a password.
func first(credentials map[string]*Credential) string {
	for _, mechanism := range Mechanisms {
		if credentials[mechanism] != nil {
			return mechanism
		}
	}
	return ""
}

// Read reads the file; one that does not exist is a table without users.
func Read(path string) (*Table, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return New(), nil
	}
	if err != nil {
		return nil, err
	}
	t, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Write replaces the file, which only its owner may read then.
func (t *Table) Write(path string) error {
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	if err := follow.Replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Follow reads the file, and again when it changes.
func Follow(path string, log *slog.Logger) (*follow.File[*Table], error) {
	return follow.Open(path, "file of SASL credentials", maxFile, log, func(text []byte, _ *Table) (*Table, error) {
		follow.Private(path, log)
		return Parse(text)
	})
}

// CheckName refuses names that a principal or a line of the log could not have.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of a user must not be empty")
	case len(name) > maxName:
		return fmt.Errorf("the name of a user has %d bytes; at most %d are allowed", len(name), maxName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name of user %q has a control character, or is not UTF-8", name)
	}
	return nil
}

// Set gives a user a password, for each of the mechanisms. Others that the user had are gone.
func (t *Table) Set(name, password string, mechanisms []string, iterations int) error {
	if err := CheckName(name); err != nil {
		return err
	}
	credentials := map[string]*Credential{}
	for _, mechanism := range mechanisms {
		salt := make([]byte, 32)
		_, _ = rand.Read(salt)
		c, err := derive(mechanism, password, salt, iterations)
		if err != nil {
			return err
		}
		credentials[mechanism] = c
	}
	t.Users[name] = credentials
	return nil
}
