package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/internal/saslserver/users"
)

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.json")
	command := func(stdin string, args ...string) (string, int) {
		var out, failure bytes.Buffer
		code := run(t.Context(), append([]string{"credentials"}, args...), strings.NewReader(stdin), &out, &failure)
		require.NotContains(t, out.String()+failure.String(), "secret-of")
		return out.String() + failure.String(), code
	}
	add := func(password string, args ...string) (string, int) {
		return command(password, append([]string{"add", "--file", file}, args...)...)
	}
	for _, user := range []string{"bob", "alice"} {
		text, code := add("secret-of-"+user+"\nanother line\n", user)
		require.Zero(t, code, text)
	}
	_, code := add("secret-of-carol", "carol", "--mechanism", "SCRAM-SHA-512", "--iterations", "4096")
	require.Zero(t, code)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	table, err := users.Read(file)
	require.NoError(t, err)
	for _, user := range []string{"alice", "bob", "carol"} {
		require.True(t, table.Check(user, "secret-of-"+user), user)
		require.False(t, table.Check(user, "secret-of-"+user+"\n"), user)
	}
	text, _ := command("", "list", "--file", file)
	require.Contains(t, text, " alice | SCRAM-SHA-256 (8192 iterations), SCRAM-SHA-512 (8192 iterations)")
	require.Contains(t, text, " carol | SCRAM-SHA-512 (4096 iterations)")
	text, _ = command("", "list", "--file", file, "--output", "json")
	require.Contains(t, text, `"name": "bob"`)

	_, code = command("", "remove", "bob", "--file", file)
	require.Zero(t, code)
	text, code = command("", "remove", "bob", "--file", file)
	require.Equal(t, exitError, code)
	require.Contains(t, text, `there is no user "bob"`)

	for name, c := range map[string]struct {
		password string
		args     []string
		want     string
		code     int
	}{
		"no password":       {"", []string{"dave"}, "1 to 4096 bytes", exitError},
		"too long":          {strings.Repeat("a", 5000), []string{"dave"}, "1 to 4096 bytes", exitError},
		"control character": {"secret-of\x07dave", []string{"dave"}, "SASL does not allow", exitError},
		"ligature":          {"secret-of-ﬁsh", []string{"dave"}, "SASLprep", exitError},
		"wide space":        {"secret-of\u3000dave", []string{"dave"}, "SASLprep", exitError},
		"name":              {"secret-of-dave", []string{"da\nve"}, "control character", exitUsage},
		"mechanism":         {"secret-of-dave", []string{"dave", "--mechanism", "PLAIN"}, "unknown mechanism", exitUsage},
		"iterations":        {"secret-of-dave", []string{"dave", "--iterations", "4095"}, "not from 4096 to 16384", exitUsage},
	} {
		text, code := add(c.password, c.args...)
		require.Equal(t, c.code, code, name)
		require.Contains(t, text, c.want, name)
	}
	table, err = users.Read(file)
	require.NoError(t, err)
	require.Len(t, table.Users, 2)
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, left, 1, "temporary files were left behind")

	// A file that is none of ours stays as it is.
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	text, code = add("secret-of-dave", "dave")
	require.Equal(t, exitError, code)
	require.Contains(t, text, "the secret is missing")
}
