package linkconfig

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"klink/internal/kafkaclient"

	"github.com/stretchr/testify/require"
)

// TestReferencesOfLinks: a link gets a secret from klink's machine only if whoever put it there has
// put next to it for whom it is. Every refusal reads the same, and tells nothing about a file.
func TestReferencesOfLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	files, err := kafkaclient.LinkFiles([]string{dir})
	require.NoError(t, err)
	write := func(path, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	const meant = "bootstrap.servers=a:1,b:1\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n"
	const jaas = `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hush";`
	write(dir+"/all.properties", meant+"password=hush\njaas="+jaas+"\nenv=${env:HOME}\n")
	write(dir+"/bare.properties", "password=hush\n")
	write(dir+"/large.properties", meant+"password=hush\n#"+strings.Repeat("x", 1<<20))
	write(dir+"/damaged.properties", meant+"password=hush\nx=\\u00")
	write(elsewhere+"/all.properties", meant+"password=hush\n")
	require.NoError(t, os.Symlink(elsewhere+"/all.properties", dir+"/out.properties"))
	for _, at := range []string{dir + "/east", elsewhere + "/east"} {
		write(at+"/bootstrap.servers", "a:1\n")
		write(at+"/security.protocol", "SASL_SSL\n")
		write(at+"/sasl.mechanism", "PLAIN")
		write(at+"/password", "hush\n")
	}
	write(dir+"/password", "hush")

	with := func(reference string) string { return strings.Replace(jaas, "hush", reference, 1) }
	base := map[string]string{ConfigBootstrapServers: "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
	resolved := func(changes map[string]string) (string, error) {
		configs := maps.Clone(base)
		maps.Copy(configs, changes)
		p, err := resolve(SourceProperties(configs), files)
		if refused := Validate(configs, files); err != nil {
			require.NotNil(t, refused)
			require.Equal(t, err.Error(), refused.Message)
		} else {
			require.Nil(t, refused)
		}
		return p["sasl.jaas.config"], err
	}
	for _, reference := range []string{"${file:" + dir + "/all.properties:password}", "${dir:" + dir + "/east:password}", "${dir:" + dir + "/./east/../east:password}"} {
		got, err := resolved(map[string]string{"sasl.jaas.config": with(reference)})
		require.NoError(t, err, reference)
		require.Equal(t, jaas, got)
	}
	got, err := resolved(map[string]string{"sasl.jaas.config": "${file:" + dir + "/all.properties:jaas}", ConfigBootstrapServers: "b:1"})
	require.NoError(t, err)
	require.Equal(t, jaas, got)
	// Nothing is looked up twice, and other text stays.
	got, err = resolved(map[string]string{"sasl.jaas.config": with("${file:" + dir + "/all.properties:env}${vault:a:b}")})
	require.NoError(t, err)
	require.Equal(t, with("${env:HOME}${vault:a:b}"), got)

	// The same text for everything that has to do with the machine.
	good := with("${file:" + dir + "/all.properties:password}")
	for _, c := range []map[string]string{
		{"sasl.jaas.config": with("${env:HOME}")},
		{"sasl.jaas.config": with("${env:KLINK_TEST_NONE}")},
		{"sasl.jaas.config": with("${file:" + dir + "/all.properties:none}")},
		{"sasl.jaas.config": with("${file:" + dir + "/none.properties:password}")},
		{"sasl.jaas.config": with("${file:" + dir + "/bare.properties:password}")},
		{"sasl.jaas.config": with("${file:" + dir + "/large.properties:password}")},
		{"sasl.jaas.config": with("${file:" + dir + "/damaged.properties:password}")},
		{"sasl.jaas.config": with("${file:" + elsewhere + "/all.properties:password}")},
		{"sasl.jaas.config": with("${file:" + elsewhere + "/none:password}")},
		{"sasl.jaas.config": with("${file:" + dir + "/../" + filepath.Base(elsewhere) + "/all.properties:password}")},
		{"sasl.jaas.config": with("${file:" + dir + "/out.properties:password}")},
		{"sasl.jaas.config": with("${file:" + dir + ":password}")},
		{"sasl.jaas.config": with("${file:/proc/self/environ:HOME}")},
		{"sasl.jaas.config": with("${file:/dev/zero:x}")},
		{"sasl.jaas.config": with("${file:x}")},
		{"sasl.jaas.config": with("${dir:" + dir + ":password}")}, // for nobody
		{"sasl.jaas.config": with("${dir:" + dir + "/east:none}")},
		{"sasl.jaas.config": with("${dir:" + dir + "/east:../password}")},
		{"sasl.jaas.config": with("${dir:" + dir + "/east:../../" + filepath.Base(elsewhere) + "/east/password}")},
		{"sasl.jaas.config": with("${dir:" + elsewhere + "/east:password}")},
		{"sasl.jaas.config": with("${dir:" + dir + "/../" + filepath.Base(elsewhere) + "/east:password}")},
		// A change of whom the secret is sent to, or how.
		{"sasl.jaas.config": good, ConfigBootstrapServers: "evil:1"},
		{"sasl.jaas.config": good, ConfigBootstrapServers: "a:1,evil:1"},
		{"sasl.jaas.config": good, ConfigBootstrapServers: "a:2"},
		{"sasl.jaas.config": good, "security.protocol": "SASL_PLAINTEXT"},
		{"sasl.jaas.config": strings.Replace(good, "plain.Plain", "scram.Scram", 1), "sasl.mechanism": "SCRAM-SHA-256"},
		{"sasl.jaas.config": good, "ssl.endpoint.identification.algorithm": ""},
		{"sasl.jaas.config": good, "ssl.enabled.protocols": "TLSv1.2"},
		{"sasl.jaas.config": good, "ssl.truststore.certificates": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
		{"sasl.jaas.config": good, "ssl.ca.location": dir + "/password"},
	} {
		_, err := resolved(c)
		require.EqualError(t, err, "sasl.jaas.config: "+errReference.Error(), "%v", c)
	}

	// What everybody may see, or what anybody may get, has no references.
	for _, key := range []string{"client.id", ConfigBootstrapServers, "ssl.truststore.certificates", "ssl.keystore.certificate.chain", "sasl.mechanism"} {
		p := SourceProperties(base).With(key, "${file:"+dir+"/all.properties:password}")
		_, err := resolve(p, files)
		require.ErrorContains(t, err, key+": only secrets of links may have references")
	}
	// A login module that may send the secret elsewhere does not go around one.
	other := SourceProperties(base).With("sasl.mechanism", "OAUTHBEARER").With("sasl.jaas.config", `M required url="http://evil" secret="${file:`+dir+`/all.properties:password}";`)
	_, err = resolve(other, files)
	require.ErrorContains(t, err, "the whole value must be one reference")
	_, err = resolve(other.With("sasl.jaas.config", strings.Repeat("${file:"+dir+"/all.properties:password}", 2)), files)
	require.ErrorContains(t, err, "the whole value must be one reference")
	_, err = resolved(map[string]string{"sasl.jaas.config": with(strings.Repeat("${file:"+dir+"/all.properties:password}", 9))})
	require.ErrorContains(t, err, "9 references are too many")

	// Without --link-file-directories there are none.
	_, err = resolve(SourceProperties(base).With("sasl.jaas.config", good), kafkaclient.Files{})
	require.EqualError(t, err, "sasl.jaas.config: "+errReference.Error())
}

// TestPropertiesWithoutEffect: a link accepts what makes no difference, and only that.
func TestPropertiesWithoutEffect(t *testing.T) {
	for key, ignored := range map[string]bool{
		"acks": true, "session.timeout.ms": true, "schema.registry.basic.auth.user.info": true, "socket.connection.setup.timeout.ms": true,
		"ssl.protocol": true, "security.protocol": false, "client.dns.lookup": false, "no.such.key": false, "config.providers": false,
	} {
		require.Equal(t, ignored, Ignored(key, "TLS"), key)
	}
	require.False(t, Ignored("ssl.protocol", "SSLv3"))
	require.True(t, Ignored("security.providers", ""))
	require.False(t, Ignored("security.providers", "x"))
}
