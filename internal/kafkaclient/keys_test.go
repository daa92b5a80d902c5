package kafkaclient

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table in docs/configs.md")

// kafkaKeys are the keys of Kafka's clients, with their types, by version: see testdata/keys.
func kafkaKeys(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/keys/kafka-*.txt")
	require.NoError(t, err)
	versions := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		types := map[string]string{}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			require.Len(t, fields, 3, line)
			types[fields[0]] = fields[2]
		}
		require.Greater(t, len(types), 80, file)
		versions[file] = types
	}
	require.Len(t, versions, 3)
	return versions
}

// TestEveryKeyOfKafkaIsKnown: the table has every key of Kafka's consumers, producers and admin
// clients, and a secret among them is never shown.
func TestEveryKeyOfKafkaIsKnown(t *testing.T) {
	for version, types := range kafkaKeys(t) {
		for key, kind := range types {
			treatment, _ := Treat(key, "")
			require.NotEqual(t, Unknown, treatment, "%s of %s", key, version)
			if kind == "password" && key != "ssl.truststore.certificates" && key != "ssl.keystore.certificate.chain" { // certificates are public
				require.True(t, Sensitive(key), key)
			}
		}
	}
}

// TestRulesAreFitToBeShown: each key has one rule, and says something for people.
func TestRulesAreFitToBeShown(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		require.NotEmpty(t, r.keys)
		require.NotEmpty(t, r.note)
		for _, key := range r.keys {
			require.False(t, seen[key], key)
			seen[key] = true
		}
	}
	const path, begin, end = "../../docs/configs.md", "go test ./internal/kafkaclient -run TestRulesAreFitToBeShown -rewrite` -->\n", "<!-- end of client properties -->"
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok1 := strings.Cut(string(raw), begin)
	table, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok1 && ok2, "the markers of the table are gone")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+keysMarkdown()+end+after), 0o644))
		return
	}
	require.Equal(t, keysMarkdown(), table, "rewrite the table, and look at the difference")
}

// TestPropertiesAsHandedOut: files of hosters and operators are taken as they are.
func TestPropertiesAsHandedOut(t *testing.T) {
	files, err := filepath.Glob("testdata/handed-out/*.properties")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 14)
	ignored := map[string][]string{}
	for _, file := range files {
		p, err := Load(file)
		require.NoError(t, err)
		used, names, err := p.Check()
		require.NoError(t, err, file)
		require.Len(t, p, len(used)+len(names), file)
		ignored[filepath.Base(file)] = names
	}
	require.Equal(t, []string{
		"acks", "basic.auth.credentials.source", "basic.auth.user.info", "client.dns.lookup", "schema.registry.basic.auth.user.info", "schema.registry.url", "session.timeout.ms",
	}, ignored["confluent-cloud.properties"])
	require.Empty(t, ignored["msk-iam.properties"])
	require.Equal(t, []string{"ssl.protocol"}, ignored["aiven-tls.properties"])
}

func TestCheckRefuses(t *testing.T) {
	const hush = "hush-hush"
	for _, c := range []struct{ key, value, want string }{
		{"sasl.jaas.conf", hush, "unknown client property sasl.jaas.conf; did you mean sasl.jaas.config?"},
		{"ackss", "all", "unknown client property ackss; did you mean acks?"},
		{"Bootstrap.Servers", "a:1", "unknown client property Bootstrap.Servers; did you mean bootstrap.servers?"},
		{"wholly.different.thing", "1", "unknown client property wholly.different.thing; docs/configs.md lists"},
		{"consumer.bootstrap.servers", "a:1", "without the prefix consumer. of other programs: did you mean bootstrap.servers?"},
		{"spring.kafka.properties.sasl.mechanism", "PLAIN", "did you mean sasl.mechanism?"},
		{"admin.override.acks", "1", "without the prefix admin.override. of other programs"},
		{"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7hushhush", "", "(not shown: it does not look like one"},
		{"password", `"` + hush + `";`, "(not shown"},
		{"0123456789abcdef0123456789abcdef", "", "(not shown"},
		{"security.providers", "com.example." + hush, "security.providers: klink uses no security providers of Java"},
		{"ssl.engine.factory.class", "com.example." + hush, "ssl.engine.factory.class: klink loads no classes of Java: leave it out, or set it to org.apache.kafka"},
		{"sasl.client.callback.handler.class", "com.example." + hush, "sasl.client.callback.handler.class: "},
		{"sasl.login.class", hush, "sasl.login.class: "},
		{"ssl.provider", "BCJSSE", "ssl.provider: "},
		{"ssl.trustmanager.algorithm", "TrustAll", "ssl.trustmanager.algorithm: "},
		{"ssl.protocol", "SSLv3", "ssl.protocol: "},
		{"bootstrap.controllers", "a:1", "set bootstrap.servers"},
		{"sasl.password", hush, "sasl.password: this is a name of librdkafka: set sasl.mechanism and sasl.jaas.config"},
		{"enable.ssl.certificate.verification", "false", "klink always verifies certificates"},
		{"config.providers", "vault", "config.providers.vault.class: klink has only the config providers of Kafka"},
		{"config.providers.x.class", "org.apache.kafka.common.config.provider.FileConfigProvider", "config.providers does not name this provider"},
		{"schema.registry", "x", "did you mean schema.registry.url?"},
	} {
		_, _, err := Properties{c.key: c.value, "bootstrap.servers": "a:1"}.Check()
		require.ErrorContains(t, err, c.want, c.key)
		require.NotContains(t, err.Error(), "hush")
		require.NotContains(t, err.Error(), "0123")
	}
	// A class that a reference hides is found when the reference is looked up.
	t.Setenv("KLINK_TEST_CLASS", "com.example."+hush)
	hidden := Properties{"ssl.engine.factory.class": "${env:KLINK_TEST_CLASS}"}
	_, _, err := hidden.Check()
	require.NoError(t, err)
	_, err = hidden.Resolve()
	require.ErrorContains(t, err, "ssl.engine.factory.class: klink loads no classes")
	require.NotContains(t, err.Error(), hush)

	_, ignored, err := Properties{"security.providers": " ", "ssl.provider": "", "ssl.protocol": "tlsv1.3", "confluent.monitoring.interceptor.bootstrap.servers": "a:1"}.Check()
	require.NoError(t, err)
	require.True(t, slices.IsSorted(ignored))
	require.Len(t, ignored, 4)
}

// keysMarkdown returns the table of client properties for docs/configs.md.
func keysMarkdown() string {
	var b strings.Builder
	b.WriteString("| keys | treatment | about |\n|---|---|---|\n")
	words := map[Treatment]string{Honoured: "honoured", NoDifference: "accepted, makes no difference", Refused: "refused", Providers: "honoured"}
	for _, r := range rules {
		names := make([]string, len(r.keys))
		for i, key := range r.keys {
			names[i] = "`" + key + "`"
		}
		note := r.note
		if r.only != nil {
			note += "; only " + strings.Join(r.only, ", ") + ", anything else is refused"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(names, ", "), words[r.treatment], note)
	}
	return b.String()
}
