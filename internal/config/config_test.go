package config

import (
	"crypto/tls"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table in docs/configs.md")

func load(t *testing.T, args, environ []string) (*Serve, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(flags)
	require.NoError(t, flags.Parse(args))
	return Load(flags, environ)
}

func yamlFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "klink.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDefaults(t *testing.T) {
	c, err := load(t, []string{"--destination", "a:1,b:2"}, nil)
	require.NoError(t, err)
	c.given = listenerSettings{}
	require.Equal(t, &Serve{
		Destination: []string{"a:1", "b:2"}, Listeners: []Listener{{
			Name: "default", Listen: "127.0.0.1:19092", Advertise: "127.0.0.1", FirstPort: 19093, LastPort: 65535, SSLClientAuth: "none", TLSMinVersion: tls.VersionTLS12,
		}},
		MaxRequestBytes: 100 << 20, MaxConnections: 10000, RequestMemory: 512 << 20,
		LoginTimeout: 30 * time.Second, FrameTimeout: time.Minute, IdleTimeout: 10 * time.Minute, DialTimeout: 10 * time.Second,
		DrainTimeout: 30 * time.Second, ReplicatorMemory: 256 << 20, StateLease: 10 * time.Second, SessionTimeout: 6 * time.Second, LogLevel: slog.LevelInfo, LogFormat: "text", LinkAdmin: "on", LinkAWSCredentials: "off",
		Identity: Identity{Authentication: "pass-through", SASLMechanisms: []string{"SCRAM-SHA-512", "SCRAM-SHA-256"}, OAuthNameClaim: "sub"},
	}, c)
}

// A flag wins over the environment, over the file, over the default, for every setting of the
// table.
func TestPrecedence(t *testing.T) {
	values := map[string][3]string{ // for file, environment, flag; all valid
		"destination": {"a:1", "b:1", "c:1"}, "destination-config": {"a", "b", "c"}, "own-principal": {"User:a", "User:b", "User:c"}, "listen": {"a:1", "b:1", "c:1"},
		"advertise": {"a", "b", "c"}, "http": {"a:1", "b:1", "c:1"}, "pprof": {"true", "false", "true"},
		"max-connections-per-ip": {"1", "2", "3"}, "max-connections-rate": {"1", "2", "3"}, "request-memory": {"1GiB", "2GiB", "3GiB"},
		"login-timeout": {"1s", "2s", "3s"}, "frame-timeout": {"1s", "2s", "3s"},
		"max-request-bytes": {"1024", "2KiB", "3MiB"}, "max-connections": {"1", "2", "3"}, "idle-timeout": {"1m", "2m", "3m"},
		"dial-timeout": {"1s", "2s", "3s"}, "drain-timeout": {"1s", "2s", "3s"}, "tls-cert-file": {"a", "b", "c"},
		"ssl-client-auth": {"none", "x=requested", "required"}, "ssl-client-ca-file": {"a", "b", "c"}, "ssl-principal-mapping-rules": {"DEFAULT", "RULE:a/b/", "RULE:c/d/L"},
		"authentication": {"terminate", "pass-through", "terminate"}, "credential-map-file": {"a", "b", "c"}, "sasl-enabled-mechanisms": {"PLAIN", "OAUTHBEARER", "SCRAM-SHA-256,PLAIN"},
		"sasl-credentials-file": {"a", "b", "c"}, "oauth-jwks-url": {"a", "b", "c"}, "oauth-expected-audience": {"a", "b,c", "d"}, "oauth-expected-issuer": {"a", "b", "c"}, "oauth-sub-claim-name": {"a", "b", "c"},
		"tls-key-file": {"a", "b", "c"}, "proxy-protocol-from": {"10.0.0.0/8", "x=::1", "10.0.0.1,10.0.0.2"}, "sni-broker": {"a{id}", "x=b{id}", "c{id}"}, "advertise-port": {"1", "2", "x=3"}, "broker-ports": {"1-2", "x=2-3", "3-4"}, "tls-min-version": {"TLSv1.2", "TLSv1.3", "x=TLSv1.2"},
		"tls-cipher-suites": {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, "secrets-key-file": {"a", "b", "c"}, "allow-plaintext-secrets": {"true", "false", "true"},
		"link-admin": {"on", "read", "off"}, "link-file-directories": {"/a", "/b", "/c"}, "link-aws-credentials": {"on", "off", "on"}, "link-token-endpoints": {"https://a/t", "https://b/t", "https://c/t"}, "replicator-memory": {"1GiB", "2GiB", "3GiB"}, "instance-id": {"a", "b", "c"}, "session-timeout": {"7s", "8s", "9s"}, "state-lease": {"11s", "12s", "13s"}, "log-level": {"debug", "warn", "error"}, "log-format": {"json", "text", "json"},
	}
	for _, s := range Settings {
		if s.Name == "config" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			v, ok := values[s.Name]
			require.True(t, ok, "no values for this setting in the test")
			wants := make([]*Serve, 3)
			for i := range wants {
				wants[i] = &Serve{}
				require.NoError(t, s.set(wants[i], v[i]))
			}
			got := &Serve{}
			flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			AddFlags(flags)
			path := yamlFile(t, s.Name+": "+v[0]+"\n")
			for i, step := range []func() []string{
				func() []string { return []string{"KLINK_CONFIG=" + path} },
				func() []string { return []string{"KLINK_CONFIG=" + path, s.Env() + "=" + v[1], "KLINK_OTHER=x"} },
				func() []string {
					require.NoError(t, flags.Set(s.Name, v[2]))
					return []string{"KLINK_CONFIG=" + path, s.Env() + "=" + v[1]}
				},
			} {
				o, err := readOrigins(flags, step())
				require.NoError(t, err)
				text, _ := o.value(s)
				require.NoError(t, s.set(got, text))
				require.Equal(t, wants[i], got, "step %d", i)
			}
		})
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	dst := "--destination=a:1"
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		yaml    string
		wants   []string
	}{
		{"no destination", nil, nil, "", []string{"destination: must be set"}},
		{"unknown YAML key", []string{dst}, nil, "listen: a:1\nlisten-port: 5\n", []string{"listen-port: unknown key", "klink.yaml"}},
		{"nested YAML key", []string{dst}, nil, "tls:\n  cert: x\n", []string{"tls.cert: unknown key"}},
		{"YAML list", nil, nil, "destination: [a:1, b:2]\n", []string{"destination: want one value"}},
		{"YAML broken", []string{dst}, nil, "a: [", []string{"config file", "klink.yaml"}},
		{"config in config", []string{dst}, nil, "config: x\n", []string{"config: a config file cannot name another"}},
		{"size", []string{dst, "--max-request-bytes=100MB"}, nil, "", []string{"max-request-bytes", `"100MB"`, "KiB, MiB or GiB", "flag --max-request-bytes"}},
		{"size range", []string{dst, "--max-request-bytes=3GiB"}, nil, "", []string{"max-request-bytes", "out of range"}},
		{"environment", []string{dst}, []string{"KLINK_IDLE_TIMEOUT=10"}, "", []string{"idle-timeout", "not a duration", "environment KLINK_IDLE_TIMEOUT"}},
		{"number", []string{dst, "--max-connections=-1"}, nil, "", []string{"max-connections", "-1"}},
		{"bool", []string{dst}, []string{"KLINK_PPROF=maybe"}, "", []string{"pprof", "neither true nor false"}},
		{"address", []string{"--destination=a"}, nil, "", []string{"destination", `"a" is not HOST:PORT`}},
		{"listen", []string{dst, "--listen=19092"}, nil, "", []string{"listen", `"19092" is not HOST:PORT`}},
		{"listen port", []string{dst, "--listen=:99999"}, nil, "", []string{"listen", "0 to 65535"}},
		{"wildcard", []string{dst, "--listen=0.0.0.0:19092"}, nil, "", []string{"advertise: must be set"}},
		{"wildcard IPv6", []string{dst, "--listen=[::]:19092"}, nil, "", []string{"advertise: must be set"}},
		{"advertise with a port", []string{dst, "--advertise=a:1"}, nil, "", []string{"advertise", "not a host name"}},
		{"key without certificate", []string{dst, "--tls-key-file=x"}, nil, "", []string{"tls-cert-file: must be set together"}},
		{"certificates without TLS", []string{dst, "--ssl-client-auth=required"}, nil, "", []string{"ssl-client-auth: needs --tls-cert-file"}},
		{"certificates of nobody", []string{dst, "--ssl-client-auth=required", "--tls-cert-file=a", "--tls-key-file=b"}, nil, "", []string{"ssl-client-auth: needs --ssl-client-ca-file"}},
		{"authority of nothing", []string{dst, "--ssl-client-ca-file=a"}, nil, "", []string{"ssl-client-ca-file: needs"}},
		{"certificates", []string{dst, "--ssl-client-auth=REQUIRED"}, nil, "", []string{"ssl-client-auth", "not one of none, requested, required"}},
		{"rules", []string{dst, "--ssl-principal-mapping-rules=RULE:(?=a)/b/"}, nil, "", []string{"ssl-principal-mapping-rules: rule 1"}},
		{"rules of nothing", []string{dst, "--ssl-principal-mapping-rules=DEFAULT"}, nil, "", []string{"ssl-principal-mapping-rules: needs"}},
		{"terminate without a map", []string{dst, "--authentication=terminate"}, nil, "", []string{"authentication: terminate needs --credential-map-file"}},
		{"map of nothing", []string{dst, "--credential-map-file=a"}, nil, "", []string{"credential-map-file: needs --authentication terminate"}},
		{"users of nothing", []string{dst, "--sasl-credentials-file=a"}, nil, "", []string{"sasl-credentials-file: needs"}},
		{"no users", []string{dst, "--authentication=terminate", "--credential-map-file=a"}, nil, "", []string{"need --sasl-credentials-file"}},
		{"no keys", []string{dst, "--authentication=terminate", "--credential-map-file=a", "--sasl-enabled-mechanisms=OAUTHBEARER"}, nil, "", []string{"OAUTHBEARER needs --oauth-jwks-url"}},
		{"keys of nothing", []string{dst, "--authentication=terminate", "--credential-map-file=a", "--sasl-credentials-file=b", "--oauth-jwks-url=c"}, nil, "", []string{"oauth-jwks-url: needs OAUTHBEARER"}},
		{"mechanism", []string{dst, "--sasl-enabled-mechanisms=GSSAPI"}, nil, "", []string{"sasl-enabled-mechanisms", "GSSAPI"}},
		{"audience of nothing", []string{dst, "--oauth-expected-audience=a"}, nil, "", []string{"oauth-expected-audience", "need --oauth-jwks-url"}},
		{"pprof without http", []string{dst, "--pprof"}, nil, "", []string{"pprof: needs --http"}},
		{"request memory", []string{dst, "--max-request-bytes=300MiB"}, nil, "", []string{"request-memory", "less than twice --max-request-bytes"}},
		{"little request memory", []string{dst, "--request-memory=1MiB"}, nil, "", []string{"request-memory", "out of range"}},
		{"no time for a login", []string{dst, "--login-timeout=0s"}, nil, "", []string{"login-timeout", "too short"}},
		{"log level", []string{dst, "--log-level=trace"}, nil, "", []string{"log-level", "debug, info, warn, error"}},
		{"missing file", []string{dst, "--config=/does/not/exist.yaml"}, nil, "", []string{"/does/not/exist.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.yaml != "" {
				c.args = append(c.args, "--config="+yamlFile(t, c.yaml))
			}
			_, err := load(t, c.args, c.environ)
			require.Error(t, err)
			for _, want := range c.wants {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// Listeners without authentication are local to the machine, unless configured otherwise.
func TestHTTPIsLocal(t *testing.T) {
	for given, want := range map[string]string{
		":9090": "127.0.0.1:9090", "0.0.0.0:9090": "0.0.0.0:9090", "[::]:9090": "[::]:9090", "localhost:0": "localhost:0", "": "",
	} {
		c, err := load(t, []string{"--destination=a:1", "--http=" + given}, nil)
		require.NoError(t, err)
		require.Equal(t, want, c.HTTP)
	}
}

func TestYAMLTypes(t *testing.T) {
	path := yamlFile(t, "destination: a:1\nmax-connections: 5\npprof: true\nhttp: \":0\"\nreplicator-memory: 268435456\nadvertise:\nlog-format: json\n")
	c, err := load(t, []string{"--config", path}, nil)
	require.NoError(t, err)
	require.Equal(t, int64(5), c.MaxConnections)
	require.True(t, c.PProf)
	require.Equal(t, int64(256<<20), c.ReplicatorMemory)
	require.Equal(t, "127.0.0.1", c.Listeners[0].Advertise)
	require.Equal(t, "json", c.LogFormat)
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "17": 17, "17B": 17, "1KiB": 1024, "64 kib": 65536, "256MiB": 256 << 20, "2GiB": 2 << 30} {
		got, err := ParseSize(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "MiB", "-1", "1.5GiB", "1MB", "9223372036854775807KiB", "1TiB"} {
		_, err := ParseSize(s)
		require.Error(t, err, s)
	}
}

func TestDestinationProperties(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.properties")
	require.NoError(t, os.WriteFile(path, []byte("bootstrap.servers=f:1\nsecurity.protocol=PLAINTEXT\nacks=all\nlinger.ms=5\n"), 0o600))
	c := &Serve{DestinationConfig: path}
	p, ignored, err := c.DestinationProperties()
	require.NoError(t, err)
	require.Equal(t, []string{"acks", "linger.ms"}, ignored)
	require.NotContains(t, p, "acks")
	require.Equal(t, "f:1", p["bootstrap.servers"])
	c.Destination = []string{"a:1", "b:1"}
	p, _, err = c.DestinationProperties()
	require.NoError(t, err)
	require.Equal(t, "a:1,b:1", p["bootstrap.servers"])
	require.Equal(t, "PLAINTEXT", p["security.protocol"])
	require.NoError(t, os.WriteFile(path, []byte("security.protocol=PLAINTEXT\n"), 0o600))
	_, _, err = (&Serve{DestinationConfig: path}).DestinationProperties()
	require.ErrorContains(t, err, "destination: must be set")
	_, _, err = (&Serve{DestinationConfig: path + "x"}).DestinationProperties()
	require.ErrorContains(t, err, "destination-config: ")
	for text, problem := range map[string]string{
		"bootstrap.server=f:1\n":                                       "did you mean bootstrap.servers?",
		"bootstrap.servers=f:1\nsecurity.providers=x\n":                "security.providers: ",
		"bootstrap.servers=f:1\nsasl.jaas.config=${env:KLINK_NONE_}\n": "sasl.jaas.config: ${env:KLINK_NONE_}: environment variable KLINK_NONE_ is not set",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, _, err = (&Serve{DestinationConfig: path}).DestinationProperties()
		require.ErrorContains(t, err, problem)
	}
}

// docs/configs.md contains the table; go test ./internal/config -rewrite updates it.
func TestDocs(t *testing.T) {
	const path, begin, end = "../../docs/configs.md", "go test ./internal/config -rewrite` -->\n", "<!-- end of serve settings -->"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+Markdown()+end+tail), 0o644))
		return
	}
	require.Equal(t, Markdown(), table, "run go test ./internal/config -rewrite and look at the difference")
}
