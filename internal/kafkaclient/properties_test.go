package kafkaclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Properties
		err        string
	}{
		{"separators", "a=1\nb:2\nc 3\n d  =  4  \n", Properties{"a": "1", "b": "2", "c": "3", "d": "4  "}, ""},
		{"comments and blank lines", "# x\n! y\n\na=1\n", Properties{"a": "1"}, ""},
		{"continuation", "a=1,\\\n   2\n", Properties{"a": "1,2"}, ""},
		{"continuation with CRLF", "a=1,\\\r\n   2\r\nb=3\r\n", Properties{"a": "1,2", "b": "3"}, ""},
		{"escapes", "a=\\u00e9\\t\\q\\=\n", Properties{"a": "é\tq="}, ""},
		{"UTF-8 and a byte order mark", "\xef\xbb\xbfa=é\n", Properties{"a": "é"}, ""},
		{"no expansion", "a=${b}\nb=${a}\n", Properties{"a": "${b}", "b": "${a}"}, ""},
		{"the last of two counts", "a=1\na=2\n", Properties{"a": "2"}, ""},
		{
			"value with equals", "sasl.jaas.config=M required username=\"u\" password=\"a=b\";\n",
			Properties{"sasl.jaas.config": `M required username="u" password="a=b";`},
			"",
		},
		{"empty value", "ssl.endpoint.identification.algorithm=\n", Properties{"ssl.endpoint.identification.algorithm": ""}, ""},
		{"bad escape", "password=hunter2\\u00zz", nil, "invalid .properties syntax"},
		{"too large", strings.Repeat("#", maxFile+1), nil, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(c.text))
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "hunter2")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.properties")
	_, err := Load(path)
	require.ErrorContains(t, err, path)
	require.NoError(t, os.WriteFile(path, []byte("a=\\uzzzz"), 0o600))
	_, err = Load(path)
	require.ErrorContains(t, err, path)
	require.NoError(t, os.WriteFile(path, []byte("a=1"), 0o600))
	p, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, Properties{"a": "1"}, p)
}

func TestWithDoesNotChangeTheOriginal(t *testing.T) {
	p := Properties{"a": "1"}
	require.Equal(t, Properties{"a": "2"}, p.With("a", "2"))
	require.Equal(t, Properties{"a": "1"}, p)
	require.Equal(t, Properties{"a": "2"}, Properties(nil).With("a", "2"))
}

func TestSensitive(t *testing.T) {
	for key, want := range map[string]bool{
		"sasl.jaas.config": true, "ssl.keystore.password": true, "ssl.key.password": true, "ssl.keystore.key": true, "ssl.key": true,
		"bootstrap.servers": false, "sasl.mechanism": false, "ssl.truststore.location": false, "request.timeout.ms": false,
		"basic.auth.user.info": true, "sasl.password": true, "sasl.oauthbearer.client.credentials.client.secret": true, "a.key.of.tomorrow": true,
		"ssl.key.pem": true, "ssl.keystore.location": false,
	} {
		require.Equal(t, want, Sensitive(key), key)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a=1\nb:2\\\n 3\n# c\n=\n\\u0041=\\")
	f.Add("\xff\xfe\x00a")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(strings.NewReader(s))
		if err == nil {
			_, _ = p.Options()
		}
	})
}
