package kafkaclient

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const jaasPlain = `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="S3CRET";`

func TestOptionsErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct {
		name  string
		p     Properties
		wants []string
	}{
		{"address without port", Properties{"bootstrap.servers": "a:1,b"}, []string{"bootstrap.servers", `"b" is not HOST:PORT`}},
		{"port out of range", Properties{"bootstrap.servers": "a:70000"}, []string{"bootstrap.servers", "1 to 65535"}},
		{"protocol", Properties{"security.protocol": "TLS"}, []string{"security.protocol", `"TLS"`, "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"}},
		{"mechanism missing", Properties{"security.protocol": "SASL_SSL"}, []string{"sasl.mechanism", "PLAIN, SCRAM-SHA-256"}},
		{"mechanism", Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, []string{"sasl.mechanism", `"GSSAPI"`}},
		{"lines run together", Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN required username='u' password='S3CRET';"}, []string{"sasl.mechanism"}},
		{"jaas missing", Properties{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, []string{"sasl.jaas.config"}},
		{"jaas bad", Properties{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.jaas.config": jaasPlain[:len(jaasPlain)-1]}, []string{"sasl.jaas.config", "semicolon"}},
		{"jaas module", Properties{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.jaas.config": jaasPlain}, []string{"sasl.jaas.config", "ScramLoginModule"}},
		{"time-out", Properties{"request.timeout.ms": "5s"}, []string{"request.timeout.ms", "milliseconds"}},
		{"type of store", Properties{"security.protocol": "SSL", "ssl.truststore.type": "BCFKS"}, []string{"ssl.truststore.type", "BCFKS", "keytool", "PEM, JKS or PKCS12"}},
		{"identification", Properties{"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "ldaps"}, []string{"ssl.endpoint.identification.algorithm"}},
		{"truststore file", Properties{"security.protocol": "SSL", "ssl.truststore.location": "/does/not/exist"}, []string{"ssl.truststore.location", "/does/not/exist"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.p.Options()
			require.Error(t, err)
			for _, want := range c.wants {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "S3CRET")
		})
	}
}

func TestSeeds(t *testing.T) {
	seeds, err := Properties{"bootstrap.servers": " a:1, SASL_SSL://b.example:2 ,[::1]:3,"}.Seeds()
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b.example:2", "[::1]:3"}, seeds)
	seeds, err = Properties{}.Seeds()
	require.NoError(t, err)
	require.Empty(t, seeds)
}

func TestOptionsMakeAValidClient(t *testing.T) {
	opts, err := Properties{
		"bootstrap.servers": "127.0.0.1:1", "client.id": "c", "unknown": "x",
		"request.timeout.ms": "1", "metadata.max.age.ms": "1", "socket.connection.setup.timeout.ms": "2000",
		"security.protocol": "PLAINTEXT", "sasl.jaas.config": "not looked at without SASL",
	}.Options()
	require.NoError(t, err)
	cl, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer cl.Close()
	require.Equal(t, []string{"127.0.0.1:1"}, cl.OptValue(kgo.SeedBrokers))
	require.Equal(t, 100*time.Millisecond, cl.OptValue(kgo.RequestTimeoutOverhead))
}

// Every mechanism authenticates against a cluster that knows the user, and is refused with a wrong
// password.
func TestSASLLogsIn(t *testing.T) {
	for mechanism, module := range map[string]string{
		"PLAIN":         "org.apache.kafka.common.security.plain.PlainLoginModule",
		"SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
		"SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
	} {
		t.Run(mechanism, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "p=;'"))
			require.NoError(t, err)
			defer cluster.Close()
			p := Properties{
				"bootstrap.servers": cluster.ListenAddrs()[0], "security.protocol": "SASL_PLAINTEXT",
				"sasl.mechanism": mechanism, "sasl.jaas.config": module + ` required username="u" password="p=;'";`,
			}
			require.NoError(t, ping(t, p))
			require.Error(t, ping(t, p.With("sasl.jaas.config", module+` required username="u" password="wrong";`)))
		})
	}
}

func ping(t *testing.T, p Properties) error {
	t.Helper()
	opts, err := p.Options()
	require.NoError(t, err)
	cl, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}
