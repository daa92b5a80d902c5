package credentials

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/internal/kafkaclient"
)

const login = `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="top-secret";`

// own is how klink itself connects.
var own = kafkaclient.Properties{
	"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "client.id": "klink",
	"sasl.jaas.config":      `org.apache.kafka.common.security.scram.ScramLoginModule required username="klink" password="own-secret";`,
	"ssl.keystore.location": "/does/not/exist", "ssl.key.password": "own-secret", "ssl.certificate.location": "/does/not/exist", "ssl.endpoint.identification.algorithm": "",
}

func unshared(string) bool { return false }

// A file that links may use would let whoever creates links log in as a client.
func TestNoFileOfLinks(t *testing.T) {
	shared := func(path string) bool { return filepath.Dir(path) == "/links" }
	for _, entry := range []string{
		"destination: {ssl.keystore.location: /links/alice.pem}",
		"destination: {ssl.key.location: /links/alice.key, ssl.certificate.location: /own/alice.pem}",
		"destination: {sasl.mechanism: OAUTHBEARER, sasl.oauthbearer.token.endpoint.url: 'file:///links/token'}",
		"destination: {}, sources: {east: {ssl.keystore.location: /links/alice.pem}}",
	} {
		_, err := parse([]byte("User:alice: {"+entry+"}"), kafkaclient.Properties{}, shared)
		require.ErrorContains(t, err, "is in one of --link-file-directories", entry)
	}
}

// What klink itself logs in with is never a part of an entry.
func TestNobodyGetsKlinksLogin(t *testing.T) {
	require.Equal(t, kafkaclient.Properties{"security.protocol": "SASL_PLAINTEXT", "client.id": "klink", "ssl.endpoint.identification.algorithm": ""}, own.Nobody())
	_, err := parse([]byte("User:alice: {destination: {}}"), own.Nobody(), unshared)
	require.ErrorContains(t, err, "line 1: sasl.mechanism: must be set")
	_, err = parse([]byte("User:alice: {destination: {sasl.mechanism: PLAIN}}"), own.Nobody(), unshared)
	require.ErrorContains(t, err, "line 1: sasl.jaas.config: must be set")
	entries, err := parse([]byte("User:alice: {destination: {sasl.mechanism: PLAIN, sasl.jaas.config: '"+login+"'}, sources: {east: {sasl.mechanism: PLAIN}}}"), own.Nobody(), unshared)
	require.NoError(t, err)
	require.Equal(t, "PLAIN", entries["User:alice"].Destination.Mechanism.Name())
	require.Equal(t, kafkaclient.Properties{"sasl.mechanism": "PLAIN"}, entries["User:alice"].Sources["east"])
	entries, err = parse([]byte("User:alice: {destination: {}}"), kafkaclient.Properties{}, unshared)
	require.NoError(t, err)
	require.Nil(t, entries["User:alice"].Destination.Mechanism)
}

// Mistakes are named by line and key, and no value is shown.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"User:a: [":            "line 1: invalid YAML",
		"User:a: *top-secret":  "invalid YAML",
		"User:a: \"top-secret": "invalid YAML",
		"User:a: {destination: {sasl.jaas.config: @top-secret}}": "invalid YAML",
		"- User:a":                          "line 1: want KEY: VALUE",
		"top-secret":                        "line 1: want KEY: VALUE",
		"alice: {destination: {}}":          `line 1: "alice" is no principal`,
		"Group:a: {destination: {}}":        "is no principal",
		"\"User:\": {destination: {}}":      "is no principal",
		"\"User:a\\nb\": {destination: {}}": "control character",
		"User:a: {}":                        "User:a has no destination",
		"User:a: {sources: {}}":             "User:a has no destination",
		"User:a: {x: {}, destination: {}}":  `"x" is neither`,
		"User:a:\n  destination:\n    bootstrap.servers: top-secret:1":                   `line 3: "bootstrap.servers" has no place here`,
		"User:a: {destination: {security.protocol: PLAINTEXT}}":                          "has no place here",
		"User:a: {destination: {ssl.truststore.location: x}}":                            "has no place here",
		"User:a: {destination: {sasl.mechanism: [top-secret]}}":                          "line 1: sasl.mechanism: want one value",
		"User:a: {destination: {sasl.mechanism: PLAIN, sasl.jaas.config: 'top-secret'}}": "line 1: sasl.jaas.config",
		"User:a: {destination: {sasl.mechanism: PLAIN, sasl.mechanism: PLAIN}}":          "is there twice",
		"{}\n---\nUser:b: {destination: {}}":                                             "more than one YAML document",
		"User:a: {destination: {sasl.mechanism: &x PLAIN, sasl.jaas.config: *x}}":        "line 1: references",
	} {
		_, err := parse([]byte(text), own.Nobody(), unshared)
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "top-secret", text)
	}
	for _, empty := range []string{"", "# nothing\n", "null", "{}"} {
		entries, err := parse([]byte(empty), own.Nobody(), unshared)
		require.NoError(t, err, empty)
		require.Empty(t, entries)
	}
}

// The map follows its file. An entry that says the same stays the same.
func TestTheMapFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	one := func(name, user string) string {
		return "User:" + name + ": {destination: {sasl.mechanism: PLAIN, sasl.jaas.config: 'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"" + user + "\" password=\"top-secret\";'}}\n"
	}
	var log bytes.Buffer
	write(one("alice", "a") + one("bob", "b"))
	require.NoError(t, os.Chmod(path, 0o604))
	m, err := Open(path, own, unshared, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Contains(t, log.String(), "everybody on this machine may use a file with secrets")
	alice, bob, count := m.Lookup("User:alice"), m.Lookup("User:bob"), m.Refresh()
	require.NotNil(t, alice)
	require.Nil(t, m.Lookup("User:klink"))

	write(one("bob", "other") + one("alice", "a"))
	require.Greater(t, m.Refresh(), count)
	require.Same(t, alice, m.Lookup("User:alice"))
	require.NotSame(t, bob, m.Lookup("User:bob"))

	count = m.Refresh()
	write("User:alice: {destination: {sasl.jaas.config: top-secret}}")
	require.Equal(t, count, m.Refresh())
	require.Same(t, alice, m.Lookup("User:alice"))
	require.NoError(t, os.Remove(path))
	require.Equal(t, count, m.Refresh())
	require.Same(t, alice, m.Lookup("User:alice"))
	write("")
	require.Greater(t, m.Refresh(), count)
	require.Nil(t, m.Lookup("User:alice"))
	require.NotContains(t, log.String(), "top-secret")
}
