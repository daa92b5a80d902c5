package linkconfig

import (
	"flag"
	"os"
	"strings"
	"testing"

	"klink/internal/kafkaclient"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table of link configs in docs/configs.md")

// TestLinkConfigsDocs: docs/configs.md holds the table; -rewrite puts it there.
func TestLinkConfigsDocs(t *testing.T) {
	const path, begin, end = "../../docs/configs.md", "TestLinkConfigsDocs -rewrite` -->\n", "<!-- end of link configs -->"
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok1 := strings.Cut(string(raw), begin)
	table, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok1 && ok2, "the markers of the table are gone")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+Markdown()+end+after), 0o644))
		return
	}
	require.Equal(t, Markdown(), table, "run go test ./admin/linkconfig -run TestLinkConfigsDocs -rewrite and look at the difference")
}

// TestLinkConfigTable: every row is fit to be shown, and its default is allowed.
func TestLinkConfigTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Configs() {
		require.False(t, seen[c.Name], c.Name)
		seen[c.Name] = true
		require.NotEmpty(t, c.Doc, c.Name)
		require.Contains(t, []string{"high", "medium", "low"}, c.Importance, c.Name)
		require.Equal(t, c.Sensitive, c.Type == TypePassword, c.Name)
		if c.Default != "" {
			require.NoError(t, c.validate(c.Default), c.Name)
		}
		require.Contains(t, Help(), c.Name)
	}
}

func TestValidateLinkConfigs(t *testing.T) {
	const jaas = `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hush-hush";`
	const oauth = "bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n" +
		`sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId="i" clientSecret="hush-hush";` + "\n"
	for _, c := range []struct {
		configs string // key=value, one a line
		text    string // "" = valid
	}{
		{"bootstrap.servers=a:1,b:2", ""},
		{"bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=" + strings.Replace(jaas, "plain.Plain", "scram.Scram", 1), ""},
		{"bootstrap.servers=a:1\nssl.endpoint.identification.algorithm=", ""},
		{"bootstrap.servers=a:1\nacl.sync.enable=false\nconsumer.offset.sync.enable=false", ""},
		{"bootstrap.servers=a:1\nsecurity.protocol=plaintext", ""},
		{"", "bootstrap.servers must be set"},
		{"bootstrap.servers=", "bootstrap.servers"},
		{"bootstrap.servers=a", "HOST:PORT"},
		{"bootstrap.servers=a:1\nsecurity.protocol=TLS", `security.protocol: "TLS" is not allowed; allowed: PLAINTEXT`},
		{"bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL", "sasl.mechanism"},
		{"bootstrap.servers=a:1\nsasl.mechanism=GSSAPI", "SCRAM-SHA-256"},
		{"bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config=hush-hush", "sasl.jaas.config"},
		{"bootstrap.servers=a:1\nssl.truststore.type=JKS\nssl.keystore.type=pkcs12\nssl.truststore.password=hush-hush", ""},
		{"bootstrap.servers=a:1\nssl.truststore.type=BCFKS", "PEM, JKS or PKCS12"},
		{"bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.truststore.location=/does/not/exist", "ssl.truststore.location"},
		{"bootstrap.servers=a:1\ncluster.link.paused=yes", `"yes" is neither true nor false`},
		{"bootstrap.servers=a:1\nmetadata.max.age.ms=5", "100 to 3600000"},
		{"bootstrap.servers=a:1\nmetadata.max.age.ms=99999999999999999999", "whole number"},
		{"bootstrap.servers=a:1\noffset.alignment=off\noffset.alignment.max=0", ""},
		{"bootstrap.servers=a:1\noffset.alignment=no", `offset.alignment: "no" is not allowed; allowed: auto or off`},
		{"bootstrap.servers=a:1\noffset.alignment.max=-1", "0 to 1000000000"},
		{"bootstrap.servers=a:1\nsasl.jaas.conf=hush-hush", "did you mean sasl.jaas.config?"},
		{"bootstrap.servers=a:1\nsecurity.providers=hush-hush", "security.providers: klink uses no security providers"},
		{"bootstrap.servers=a:1\nsasl.password=hush-hush", "this is a name of librdkafka"},
		{"bootstrap.servers=a:1\nconfig.providers=file", "links have the config providers file and dir"},
		{"bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.enabled.protocols=TLSv1.1", "nothing older than TLS 1.2"},
		{"bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.enabled.protocols=TLSv1.3\nssl.cipher.suites=", ""},
		{"bootstrap.servers=a:1\nwholly.different.thing=1", "docs/configs.md"},
		{"bootstrap.servers=a:1\nauto.create.mirror.topics.enable=true\nauto.create.mirror.topics.filters=", ""},
		{"bootstrap.servers=a:1\nauto.create.mirror.topics.enable=true\nauto.create.mirror.topics.filters={\"topicFilters\":[]}", ""},
		{"bootstrap.servers=a:1\nauto.create.mirror.topics.enable=yes", "neither true nor false"},
		{"bootstrap.servers=a:1\nauto.create.mirror.topics.filters={\"topicFilters\":[{\"nam\":1}]}", `; line 1, column 19: a filter has no field "nam"; allowed: name, patternType, filterType`},
		{"bootstrap.servers=a:1\nauto.create.mirror.topics.filters=orders", `"orders" is not allowed; allowed: JSON {"topicFilters":[`},
		{"bootstrap.servers=a:1\nmirror.start.offset.spec=earliest", ""},
		{"bootstrap.servers=a:1\nmirror.start.offset.spec=2026-01-31T18:00:00+01:00", ""},
		{"bootstrap.servers=a:1\nmirror.start.offset.spec=yesterday", `mirror.start.offset.spec: "yesterday" is not allowed; allowed: earliest, latest`},
		{"bootstrap.servers=a:1\nmirror.start.offset.spec=1969-12-31", "that is before 1970"},
		{"bootstrap.servers=a:1\nacl.sync.enable=true\nacl.sync.ms=100\nacl.filters={\"aclFilters\":[]}", ""},
		{oauth + "sasl.oauthbearer.token.endpoint.url=https://idp/token", ""},
		{oauth + "sasl.oauthbearer.token.endpoint.url=http://127.0.0.1/token", "--link-token-endpoints"},
		{oauth + "sasl.oauthbearer.token.endpoint.url=file:///etc/hostname", "--link-file-directories"},
		{oauth + "sasl.login.refresh.window.factor=2", "sasl.login.refresh.window.factor: want a number from 0.5 to 1"},
		{oauth + "sasl.oauthbearer.assertion.file=/x", "sasl.oauthbearer.assertion.file: links do not support this client property"},
		{"bootstrap.servers=a:1\nacl.sync.ms=5", "100 to 3600000"},
		{"bootstrap.servers=a:1\nacl.filters={\"aclFilters\":{}}", "; line 1, column 15: "},
		{"bootstrap.servers=a:1\nclient.id=" + strings.Repeat("x", 300), "256"},
	} {
		configs := map[string]string{}
		for line := range strings.Lines(c.configs) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			configs[key] = value
		}
		err := Validate(configs, kafkaclient.Files{})
		if c.text == "" {
			require.Nil(t, err, c.configs)
			continue
		}
		require.NotNil(t, err, c.configs)
		require.Equal(t, kerr.InvalidConfig, err.Code)
		require.Contains(t, err.Message, c.text)
		require.NotContains(t, err.Message, "hush-hush")
	}
}

// TestStartTime: the forms of mirror.start.offset.spec, which are rounded up to milliseconds.
func TestStartTime(t *testing.T) {
	for _, c := range []struct {
		spec string
		ms   int64 // -1 = refused
	}{
		{"1970-01-01", 0},
		{"1970-01-02", 86400_000},
		{"1970-01-01T00:00:01", 1000},
		{"1970-01-01T00:01", 60_000},
		{"1970-01-01T00:00:01Z", 1000},
		{"1970-01-01T00:00:01.5Z", 1500},
		{"1970-01-01T00:00:01.500", 1500},
		{"1970-01-01T00:00:01,5Z", 1500},
		{"1970-01-01T00:00:01.0000001Z", 1001},
		{"1970-01-01T01:00:01+01:00", 1000},
		{"1970-01-01T01:00:01+0100", 1000},
		{"1970-01-01T01:00:01+01", 1000},
		{"1969-12-31T23:59:59.9995Z", 0},
		{"1970-01-01T00:00:00+01:00", -1},
		{"1969-12-31", -1},
		{"", -1},
		{"1000", -1},
		{"2026-02-30", -1},
		{"2026-01-31 18:00:00", -1},
		{"Latest", -1},
	} {
		ms, err := StartTime(c.spec)
		require.Equal(t, c.ms < 0, err != nil, "%s: %v", c.spec, err)
		if err == nil {
			require.Equal(t, c.ms, ms, c.spec)
		}
	}
}

func FuzzSuggestion(f *testing.F) {
	f.Add("bootstrap.server")
	f.Add("")
	f.Add(strings.Repeat("ab", 1000))
	f.Fuzz(func(t *testing.T, name string) {
		if err := ValidateOne(name, "x"); err != nil && !strings.Contains(err.Message, name) && len(name) < 200 {
			t.Fatalf("%q is not named in %q", name, err.Message)
		}
	})
}
