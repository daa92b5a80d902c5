package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const handedOut = "../../internal/kafkaclient/testdata/handed-out"

// notUsed are the properties as hosters and operators hand them out, and what klink says it does
// not use of them: for links, and for contexts.
var notUsed = map[string][2]string{
	"aiven-sasl":            {"key.deserializer, value.deserializer", "key.deserializer, value.deserializer"},
	"aiven-tls":             {"ssl.protocol", "ssl.protocol"},
	"confluent-cloud":       {confluentExtras, strings.Replace(confluentExtras, "schema", "client.dns.lookup, schema", 1)},
	"confluent-cloud-oauth": {},
	"event-hubs":            {"group.id, metadata.max.idle.ms", "connections.max.idle.ms, group.id, metadata.max.idle.ms"},
	"event-hubs-oauth":      {},
	"msk-iam":               {"", ""},
	"msk-scram":             {},
	"msk-tls":               {},
	"providers":             {},
	"redpanda-cloud":        {"key.serializer, value.serializer", "key.serializer, value.serializer"},
	"strimzi-oauth":         {},
	"strimzi-scram":         {},
	"strimzi-tls":           {},
}

const confluentExtras = "acks, basic.auth.credentials.source, basic.auth.user.info, schema.registry.basic.auth.user.info, schema.registry.url, session.timeout.ms"

// TestPropertiesAsHandedOut: `link create --dry-run` and `context create` take the properties files
// of hosters and operators as they are.
func TestPropertiesAsHandedOut(t *testing.T) {
	secrets, err := filepath.Abs(filepath.Join(handedOut, "secrets"))
	require.NoError(t, err)
	w := newWorld(t, "--allow-plaintext-secrets", "--link-file-directories", secrets, "--link-aws-credentials", "on")
	files, err := filepath.Glob(filepath.Join(handedOut, "*.properties"))
	require.NoError(t, err)
	require.Len(t, files, len(notUsed))
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".properties")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		w.file(name+".config", strings.ReplaceAll(string(text), "/etc/kafka/secrets", secrets))
		for i, args := range [][]string{
			{"link", "create", name, "--config-file", name + ".config", "--dry-run"},
			{"context", "create", name, "--command-config", name + ".config"},
		} {
			stdout, stderr, code := w.run("", args...)
			require.NotContains(t, stderr, "unknown", name)
			require.NotContains(t, stdout+stderr, "SECRET")
			require.Equal(t, exitOK, code, "%s: %s", args, stderr)
			said := ""
			if notUsed[name][i] != "" {
				said = "Not used by klink: " + notUsed[name][i] + "\n"
			}
			require.Equal(t, said, stderr, "%s", args[:3])
		}
	}
	require.Empty(t, w.server.service.State().Links, "nothing was created")
	stored, err := os.ReadFile(filepath.Join(w.dir, "contexts.yaml"))
	require.NoError(t, err)
	require.NotContains(t, string(stored), "SR_API_SECRET", "what klink does not use is not stored")
	require.NotContains(t, string(stored), "alice-secret", "what is kept elsewhere stays there")
	require.Contains(t, string(stored), "${mounted:"+secrets+":password}")
	require.NotContains(t, w.must("", "context", "show", "providers"), "alice")
}

// TestReferencesOfLinksFromTheCommandLine: klink itself looks up what the command line leaves to
// it.
func TestReferencesOfLinksFromTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, "--allow-plaintext-secrets", "--link-file-directories", dir)
	config := "bootstrap.servers=" + w.source + "\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
	login := `sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="` + "${file:" + dir + `/source.properties:password}";`
	w.file("link.config", config+login+"\n")
	args := []string{"link", "create", "east", "--config-file", "link.config", "--no-validate"}
	require.Contains(t, w.refused("", append(slices.Clone(args), "--keep-references")...), "sasl.jaas.config: links cannot use this reference")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "source.properties"), []byte(config+"password=S3CRET\n"), 0o600))
	w.must("", append(slices.Clone(args), "--keep-references", "--dry-run")...)
	w.must("", append(slices.Clone(args), "--keep-references")...)
	require.NotContains(t, w.must("", "link", "describe", "east", "-o", "json"), "source.properties")
	require.Equal(t, strings.TrimPrefix(login, "sasl.jaas.config="), w.server.service.State().Links["east"].Configs["sasl.jaas.config"])
	// Without the flag the command line looks it up.
	w.must("", "link", "update", "east", "--config", "metadata.max.age.ms=5000", "--config", "acks=all")
	args[2] = "west"
	w.must("", args...)
	require.Contains(t, w.server.service.State().Links["west"].Configs["sasl.jaas.config"], `password="S3CRET"`)

	_, stderr, code := w.run("", "link", "create", "x", "--config-file", "link.config", "--connect")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--connect is only for --dry-run")
	require.Contains(t, w.refused("", "link", "create", "x", "--config-file", "link.config", "--config", "sasl.password=S3CRET"), "--config: sasl.password: this is a name of librdkafka")
	w.file("typo.config", "bootstrap.server="+w.klink+"\n")
	require.Contains(t, w.refused("", "topic", "list", "--command-config", "typo.config"), "unknown client property bootstrap.server; did you mean bootstrap.servers?")
	w.file("extra.config", "acks=all\nlinger.ms=5\nbootstrap.servers="+w.klink+"\n")
	_, stderr, code = w.run("", "topic", "list", "--command-config", "extra.config")
	require.Equal(t, exitOK, code)
	require.Equal(t, "Not used by klink: acks, linger.ms\n", stderr)
	_, stderr, _ = w.run("", "__complete", "link", "describe", "--command-config", w.file("also.config", "acks=all\n"), "")
	require.NotContains(t, stderr, "Not used")
}
