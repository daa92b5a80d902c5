package store

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsKeyFile(t *testing.T) {
	raw := []byte("0123456789abcdefghijklmnopqrstuv")
	want, err := newSecretsKey(raw)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "key")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for _, text := range []string{
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)) + "\n", base64.StdEncoding.EncodeToString(raw) + "\r\n",
		base64.RawURLEncoding.EncodeToString(raw),
	} {
		k, err := LoadSecretsKey(write(text))
		require.NoError(t, err, text)
		require.Equal(t, want.ID(), k.ID())
	}
	for _, text := range []string{"", "short", string(raw), hex.EncodeToString(raw[:31]), hex.EncodeToString(raw) + "00"} {
		_, err := LoadSecretsKey(write(text))
		require.ErrorContains(t, err, "openssl rand", text)
		require.ErrorContains(t, err, dir)
		if text != "" {
			require.NotContains(t, err.Error(), text)
		}
	}
	_, err = LoadSecretsKey(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "none")
}

func TestSecrets(t *testing.T) {
	k, other := testKey(t, 1), testKey(t, 2)
	require.NotEqual(t, k.ID(), other.ID())
	s := k.Seal("l", "c", "hush")
	require.NotEqual(t, s.Data, k.Seal("l", "c", "hush").Data, "a nonce of its own each time")
	got, err := k.Open("l", "c", s)
	require.NoError(t, err)
	require.Equal(t, "hush", got)

	var none *SecretsKey
	_, err = none.Open("l", "c", s)
	require.ErrorContains(t, err, "--secrets-key-file")
	_, err = other.Open("l", "c", s)
	require.ErrorContains(t, err, k.ID())
	for name, open := range map[string]func() (string, error){
		"another link":   func() (string, error) { return k.Open("m", "c", s) },
		"another config": func() (string, error) { return k.Open("l", "d", s) },
		"cut":            func() (string, error) { return k.Open("l", "c", Sealed{s.KeyID, s.Data[:5]}) },
		"changed": func() (string, error) {
			data := append([]byte(nil), s.Data...)
			data[len(data)-1] ^= 1
			return k.Open("l", "c", Sealed{s.KeyID, data})
		},
	} {
		_, err := open()
		require.ErrorContains(t, err, "damaged", name)
	}
}

func FuzzParseSecretsKey(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("ab", 32))
	f.Add(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseSecretsKey(text)
		if (k == nil) == (err == nil) {
			t.Fatal("a key or an error, not both, not neither")
		}
	})
}
