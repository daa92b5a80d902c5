package kafkaclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const providerPackage = "org.apache.kafka.common.config.provider."

// TestConfigProviders: references mean what they mean to Kafka's clients.
func TestConfigProviders(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	creds := file("creds.properties", "user = u\npassword = hush-file\nodd:key=hush-odd\nnested=${env:KLINK_TEST_HUSH}\n")
	file("token", "hush-dir\n")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	t.Setenv("KLINK_TEST_HUSH", "hush-env")
	t.Setenv("KLINK_TEST_NESTED", "${file:"+creds+":password}")
	custom := Properties{
		"config.providers":                           "e, f,d",
		"config.providers.e.class":                   providerPackage + "EnvVarConfigProvider",
		"config.providers.e.param.allowlist.pattern": "KLINK_TEST_H.*",
		"config.providers.f.class":                   providerPackage + "FileConfigProvider",
		"config.providers.f.param.allowed.paths":     filepath.Join(dir, "sub") + "," + creds,
		"config.providers.d.class":                   providerPackage + "DirectoryConfigProvider",
		"config.providers.d.param.allowed.paths":     filepath.Join(dir, "sub"),
	}
	for _, c := range []struct {
		p           Properties
		value, want string // want with ! = an error
	}{
		{nil, "${env:KLINK_TEST_HUSH}", "hush-env"},
		{nil, "${file:" + creds + ":password}", "hush-file"},
		{nil, "${file:" + creds + ":odd\\:key}", "!has no key"},
		{nil, "${dir:" + dir + ":token}", "hush-dir"},
		{nil, `u="${file:` + creds + `:user}" p="${dir:` + dir + `:token}"`, `u="u" p="hush-dir"`},
		// Nothing is looked up twice.
		{nil, "${file:" + creds + ":nested}", "${env:KLINK_TEST_HUSH}"},
		{nil, "${env:KLINK_TEST_NESTED}", "${file:" + creds + ":password}"},
		{nil, "${file:${env:HOME}/x:key}", "!no such file"},
		// What is no reference stays.
		{nil, "${vault:secret/kafka:password} $ConnectionString ${} ${x} $5", "${vault:secret/kafka:password} $ConnectionString ${} ${x} $5"},
		{nil, "${env:KLINK_TEST_NONE}", "!environment variable KLINK_TEST_NONE is not set"},
		{nil, "${env:a:b}", "!want ${env:NAME}"},
		{nil, "${file:" + creds + "}", "!want ${file:PATH:NAME}"},
		{nil, "${file:" + creds + ":}", "!want ${file:PATH:NAME}"},
		{nil, "${dir:" + dir + ":../token}", "!is not the name of a file"},
		{nil, "${dir:" + dir + ":..}", "!is not the name of a file"},
		{nil, "${dir:" + dir + ":sub}", "!is a directory"},
		{custom, "${e:KLINK_TEST_HUSH} ${f:" + creds + ":user} ${env:KLINK_TEST_HUSH}", "hush-env u ${env:KLINK_TEST_HUSH}"},
		{custom, "${e:HOME}", "!param.allowlist.pattern"},
		{custom, "${e:XKLINK_TEST_HUSH}", "!param.allowlist.pattern"},
		{custom, "${d:" + dir + ":token}", "!param.allowed.paths"},
		{custom, "${d:" + dir + "/sub/..:token}", "!param.allowed.paths"},
		{custom, "${f:" + creds + "x:user}", "!param.allowed.paths"},
	} {
		p := Properties{"sasl.jaas.config": c.value, "acks": "all"}
		for key, value := range c.p {
			p = p.With(key, value)
		}
		resolved, err := p.Resolve()
		if want, ok := strings.CutPrefix(c.want, "!"); ok {
			require.ErrorContains(t, err, want, c.value)
			require.ErrorContains(t, err, "sasl.jaas.config: ")
			require.NotContains(t, err.Error(), "hush-")
			continue
		}
		require.NoError(t, err, c.value)
		require.Equal(t, Properties{"sasl.jaas.config": c.want, "acks": "all"}, resolved, "without the lines of providers")
	}
	require.ElementsMatch(t, []string{creds, filepath.Join(dir, "token")}, Properties{
		"a": "${file:" + creds + ":x} ${env:y}", "b": "${dir:" + dir + ":token}",
	}.ReferencedFiles())

	t.Chdir(dir)
	absolute, err := Properties{}.AbsoluteReferences("${file:creds.properties:x} ${dir:.:token} ${env:x} ${other:a:b}")
	require.NoError(t, err)
	require.Equal(t, "${file:"+creds+":x} ${dir:"+dir+":token} ${env:x} ${other:a:b}", absolute)
}

// TestProvidersThatKlinkDoesNotHave: what klink cannot do as Kafka would, it refuses by name.
func TestProvidersThatKlinkDoesNotHave(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{"config.providers=v\nconfig.providers.v.class=com.example.VaultConfigProvider", "config.providers.v.class: klink has only"},
		{"config.providers=v", "config.providers.v.class: klink has only"},
		{"config.providers=e\nconfig.providers.e.class=" + providerPackage + "EnvVarConfigProvider\nconfig.providers.e.param.allowlist.pattern=(", "no regular expression"},
		{"config.providers=e\nconfig.providers.e.class=" + providerPackage + "EnvVarConfigProvider\nconfig.providers.e.param.allowed.paths=/x", "no such parameter"},
		{"config.providers=f\nconfig.providers.f.class=" + providerPackage + "FileConfigProvider\nconfig.providers.f.param.allowed.paths=x", "absolute paths"},
		{"config.providers=f\nconfig.providers.f.class=" + providerPackage + "FileConfigProvider\nconfig.providers.f.param.secure=x", "no such parameter"},
	} {
		p, err := Parse(strings.NewReader(c.lines))
		require.NoError(t, err)
		_, _, err = p.Check()
		require.ErrorContains(t, err, c.want, c.lines)
		_, err = p.With("client.id", "x").Resolve()
		require.ErrorContains(t, err, c.want, c.lines)
	}
}

// TestLoginIsLookedUpAnew: a client goes on with a password that has changed.
func TestLoginIsLookedUpAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "creds.properties")
	write := func(password string) { require.NoError(t, os.WriteFile(path, []byte("pw="+password), 0o600)) }
	write("first")
	p := Properties{
		"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
		"sasl.jaas.config": strings.Replace(jaasPlain, "S3CRET", "${file:"+path+":pw}", 1),
	}
	require.True(t, p.HasReferences())
	resolved, err := p.Resolve()
	require.NoError(t, err)
	opts, err := resolved.Options()
	require.NoError(t, err)
	opts = Refreshed(opts, resolved, p.Resolve)
	var login *refreshed
	for _, o := range opts {
		if o, ok := o.(saslOpt); ok {
			login = o.mechanism.(*refreshed)
		}
	}
	require.NotNil(t, login)
	require.Equal(t, "PLAIN", login.Name())
	sent := func() string {
		_, message, err := login.Authenticate(t.Context(), "broker:9092")
		require.NoError(t, err)
		return string(message)
	}
	require.Equal(t, "\x00u\x00first", sent())
	login.mechanism = plain.Auth{User: "u", Pass: "kept"}.AsMechanism()
	require.Equal(t, "\x00u\x00kept", sent(), "nothing has changed, so it is the same one")
	write("second")
	require.Equal(t, "\x00u\x00second", sent())
	require.NoError(t, os.Remove(path))
	_, _, err = login.Authenticate(t.Context(), "broker:9092")
	require.Error(t, err)
}
