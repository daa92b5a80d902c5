package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/golang-jwt/jwt/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// mapped is a destination whose users have other names and passwords than klink's clients.
type mapped struct {
	t           *testing.T
	destination *kafkatest.Cluster
	adm         *kadm.Client
	dir         string
}

const (
	mappedUser, mappedPassword = "dest-alice", "dest-alice-secret"
	scramModule                = "org.apache.kafka.common.security.scram.ScramLoginModule"
	plainModule                = "org.apache.kafka.common.security.plain.PlainLoginModule"
)

func jaas(module, user, password string) string {
	return fmt.Sprintf(`%s required username="%s" password="%s";`, module, user, password)
}

func (m *mapped) file(name string) string { return filepath.Join(m.dir, name) }

func (m *mapped) write(name, text string) string {
	m.t.Helper()
	path := m.file(name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// writeMap maps principals at klink to users of the destination.
func (m *mapped) writeMap(password string) string {
	entry := func(principal, mechanism, jaas string) string {
		return fmt.Sprintf("%s:\n  destination:\n    sasl.mechanism: %s\n    sasl.jaas.config: '%s'\n", principal, mechanism, jaas)
	}
	alice := jaas(scramModule, mappedUser, password)
	return m.write("map.yaml", entry("User:alice", "SCRAM-SHA-256", alice)+entry("User:carol", "SCRAM-SHA-256", alice)+entry("User:CN=alice", "SCRAM-SHA-256", alice)+
		entry("User:ops", "PLAIN", jaas(plainModule, kafkatest.SuperUser, kafkatest.SuperUserPassword))+
		entry("User:mistaken", "SCRAM-SHA-256", jaas(scramModule, mappedUser, "not-its-secret")))
}

// properties of a Java client that logs in at klink with SCRAM.
func (m *mapped) properties(user, password string) map[string]string {
	return map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.jaas.config": jaas(scramModule, user, password),
		"ssl.truststore.type": "PEM", "ssl.truststore.location": m.destination.CAFile(),
	}
}

// options are those of a client that trusts klink, and logs in nowhere yet.
func (m *mapped) options(more ...kgo.Opt) []kgo.Opt {
	m.t.Helper()
	text, err := os.ReadFile(m.destination.CAFile())
	if err != nil {
		m.t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(text)
	return append([]kgo.Opt{kgo.RetryTimeout(5 * time.Second), kgo.RecordRetries(3), kgo.DialTLSConfig(config)}, more...)
}

func produceOne(ctx context.Context, cl *kgo.Client, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

// TestMappedClients: clients that a broker does not know come to klink with certificates, passwords
// and tokens, and are at the broker whom the credential map says, with that one's rights and no
// others.
func TestMappedClients(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	m := &mapped{t: t, dir: t.TempDir()}
	m.destination = kafkatest.Start(t, kafkatest.SASL(), kafkatest.ClientAuth("requested"), kafkatest.Scram("SCRAM-SHA-256", mappedUser, mappedPassword))
	m.adm = kadm.NewClient(m.destination.Client(t))
	if _, err := m.adm.CreateTopics(ctx, 1, 1, nil, "orders", "other"); err != nil {
		t.Fatal(err)
	}
	acls := kadm.NewACLs().Allow("User:"+mappedUser).AllowHosts("*").Topics("orders").Groups("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
	if _, err := m.adm.CreateACLs(ctx, acls); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(raw[1:33]), "y": encode(raw[33:])}}})
	if err != nil {
		t.Fatal(err)
	}
	users := m.file("users.json")
	for _, user := range []string{"alice", "bob", "ops", "mistaken"} {
		if out, failure, code := RunCommand(t, m.dir, user+"-at-klink\n", "credentials", "add", user, "--file", users); code != 0 {
			t.Fatal(out, failure)
		}
	}
	cert, certKey := m.destination.ServerCertificate()
	tlsFlags := []string{"--allow-plaintext-secrets", "--tls-cert-file", cert, "--tls-key-file", certKey, "--credential-map-file", m.writeMap(mappedPassword)}
	terminating := StartKlink(t, m.destination, append(tlsFlags, "--authentication", "terminate", "--sasl-enabled-mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		"--sasl-credentials-file", users, "--oauth-jwks-url", "file://"+m.write("jwks.json", string(jwks)), "--oauth-expected-audience", "klink")...)
	store := carolsStore(t, m)
	byCertificate := StartKlink(t, m.destination, append(tlsFlags, "--ssl-client-auth", "required", "--ssl-client-ca-file", m.file("clients.pem"),
		"--ssl-principal-mapping-rules", "RULE:^CN=(.*?),OU=data$/$1/L,DEFAULT")...)

	by := func(user string) kgo.Opt {
		return kgo.SASL(scram.Auth{User: user, Pass: user + "-at-klink"}.AsSha256Mechanism())
	}
	client := func(k *Klink, opts ...kgo.Opt) *kgo.Client {
		return kafkatest.NewClient(t, m.options(append(opts, kgo.SeedBrokers(k.Bootstrap()))...)...)
	}
	java := func(k *Klink, props map[string]string, stdin, class string, args ...string) (string, error) {
		config := kafkatest.WriteProperties(t, props)
		return kafkatest.JavaTool(t, stdin, class, append([]string{"--bootstrap-server", k.Bootstrap(), "--command-config", config}, args...)...)
	}
	wants := func(t *testing.T, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	roundTrip := func(t *testing.T, k *Klink, props map[string]string) {
		t.Helper()
		if out, err := java(k, props, "from java\n", kafkatest.ConsoleProducer, "--topic", "orders"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := java(k, props, "", kafkatest.ConsoleConsumer, "--topic", "orders", "--from-beginning", "--max-messages", "1", "--timeout-ms", "60000")
		if err != nil || out == "" {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	t.Run("passwords", func(t *testing.T) {
		alice := client(terminating, by("alice"))
		wants(t, produceOne(ctx, alice, "orders"), nil)
		wants(t, produceOne(ctx, alice, "other"), kerr.TopicAuthorizationFailed)
		roundTrip(t, terminating, m.properties("alice", "alice-at-klink"))
	})
	t.Run("refusals that Java shows", func(t *testing.T) {
		for user, want := range map[string]string{
			"bob":      "klink has no credentials at the destination for User:bob",
			"mistaken": "the destination refused the credentials that klink has for User:mistaken",
			"mallory":  "invalid credentials with SASL mechanism SCRAM-SHA-512",
		} {
			out, err := java(terminating, m.properties(user, user+"-at-klink"), "", kafkatest.TopicCommand, "--list")
			if err == nil || !strings.Contains(err.Error(), "SaslAuthenticationException") || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\n%s", user, err, out)
			}
		}
	})
	t.Run("link administration", func(t *testing.T) {
		for user, code := range map[string]int{"alice": 1, "ops": 0} {
			config := kafkatest.WriteProperties(t, m.properties(user, user+"-at-klink"))
			out, failure, got := terminating.CLI(t, "link", "list", "--command-config", config)
			if got != code || code != 0 && !strings.Contains(failure, "Not authorized: links and mirrors need DESCRIBE on the cluster") {
				t.Errorf("%s: exit code %d\n%s%s", user, got, out, failure)
			}
		}
	})
	t.Run("certificates", func(t *testing.T) {
		pem := map[string]string{"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": m.destination.CAFile(), "ssl.keystore.type": "PEM", "ssl.keystore.location": m.destination.ClientCertificate("alice")}
		p12 := maps.Clone(pem)
		maps.Copy(p12, store)
		for _, props := range []map[string]string{pem, p12} {
			roundTrip(t, byCertificate, props)
			out, err := java(byCertificate, props, "", kafkatest.TopicCommand, "--list")
			if err != nil || strings.Fields(out)[0] != "orders" || strings.Contains(out, "other") {
				t.Errorf("the mapped client sees other topics than its own: %v\n%s", err, out)
			}
		}
		pem["ssl.keystore.location"] = m.destination.ClientCertificate("mallory")
		out, err := java(byCertificate, pem, "", kafkatest.TopicCommand, "--list")
		// So says Kafka's SslAuthenticationException, with which a client gives up.
		if err == nil || !strings.Contains(err.Error(), "Failed to process post-handshake messages") {
			t.Errorf("a certificate without an entry: %v\n%s", err, out)
		}
		if !strings.Contains(byCertificate.Log(t), `the credential map has no entry for`) {
			t.Error("the log does not say why")
		}
	})
	t.Run("tokens", func(t *testing.T) {
		var made atomic.Int64
		mechanism := oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			made.Add(1)
			token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "alice", "aud": "klink", "exp": time.Now().Add(6 * time.Second).Unix()})
			token.Header["kid"] = "k"
			text, err := token.SignedString(key)
			return oauth.Auth{Token: text}, err
		})
		cl := client(terminating, kgo.SASL(mechanism))
		// The token runs out several times; each connection logs in again.
		kafkatest.WaitFor(t, 2*time.Minute, "tokens to run out", func() (bool, string) {
			if err := produceOne(ctx, cl, "orders"); err != nil {
				t.Fatal(err)
			}
			return made.Load() >= 6, fmt.Sprint(made.Load())
		})
		wants(t, produceOne(ctx, cl, "other"), kerr.TopicAuthorizationFailed)
	})
	t.Run("another password", func(t *testing.T) {
		alice := client(terminating, by("alice"))
		wants(t, produceOne(ctx, alice, "orders"), nil)
		const next = "the-next-secret"
		if _, err := m.adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: mappedUser, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: next}}); err != nil {
			t.Fatal(err)
		}
		kafkatest.WaitFor(t, time.Minute, "the broker to take the new password", func() (bool, string) {
			err := client(terminating, by("alice")).Ping(ctx)
			return errors.Is(err, kerr.SaslAuthenticationFailed), fmt.Sprint(err)
		})
		m.writeMap(next)
		kafkatest.WaitFor(t, time.Minute, "klink to take the new map", func() (bool, string) {
			err := produceOne(ctx, client(terminating, by("alice")), "orders")
			return err == nil, fmt.Sprint(err)
		})
		wants(t, produceOne(ctx, alice, "orders"), nil)
	})
	for _, k := range []*Klink{terminating, byCertificate} {
		for _, secret := range []string{mappedPassword, "not-its-secret", "the-next-secret", "-at-klink", kafkatest.SuperUserPassword} {
			if strings.Contains(k.Log(t), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	}
}

// carolsStore makes a PKCS #12 key store with Java, and a file of authorities that has its
// certificate, too. It returns the properties that name the store.
func carolsStore(t *testing.T, m *mapped) map[string]string {
	t.Helper()
	store, certificate := m.file("carol.p12"), m.file("carol.pem")
	for _, args := range [][]string{
		{"-genkeypair", "-alias", "carol", "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=Carol, OU=data", "-validity", "2", "-storetype", "PKCS12", "-keystore", store, "-storepass", "store-password"},
		{"-exportcert", "-rfc", "-alias", "carol", "-keystore", store, "-storepass", "store-password", "-file", certificate},
	} {
		if out, err := exec.Command("keytool", args...).CombinedOutput(); err != nil {
			t.Fatalf("keytool: %v\n%s", err, out)
		}
	}
	var all []byte
	for _, path := range []string{m.destination.CAFile(), certificate} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	m.write("clients.pem", string(all))
	return map[string]string{"ssl.keystore.type": "PKCS12", "ssl.keystore.location": store, "ssl.keystore.password": "store-password", "ssl.key.password": "store-password"}
}
