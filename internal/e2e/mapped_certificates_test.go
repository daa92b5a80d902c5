package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// TestMappedToCertificates: brokers know clients by nothing but certificates. A client with a
// password gets in by the certificate that the map has for it, and not by klink's own.
func TestMappedToCertificates(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	m := &mapped{t: t, dir: t.TempDir(), destination: kafkatest.Start(t, kafkatest.MutualTLS())}
	m.adm = kadm.NewClient(m.destination.Client(t))
	if _, err := m.adm.CreateTopics(ctx, 1, 1, nil, "orders", "other"); err != nil {
		t.Fatal(err)
	}
	acls := kadm.NewACLs().Allow("User:dest-alice").AllowHosts("*").Topics("orders").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite, kadm.OpDescribe)
	if _, err := m.adm.CreateACLs(ctx, acls); err != nil {
		t.Fatal(err)
	}
	users := m.file("users.json")
	for _, user := range []string{"alice", "bob"} {
		if out, failure, code := RunCommand(t, m.dir, user+"-at-klink\n", "credentials", "add", user, "--file", users); code != 0 {
			t.Fatal(out, failure)
		}
	}
	file := m.write("map.yaml", fmt.Sprintf("User:alice: {destination: {ssl.keystore.type: PEM, ssl.keystore.location: %q}}\nUser:bob: {destination: {}}\n", m.destination.ClientCertificate("dest-alice")))
	cert, key := m.destination.ServerCertificate()
	k := StartKlink(t, m.destination, "--allow-plaintext-secrets", "--tls-cert-file", cert, "--tls-key-file", key,
		"--authentication", "terminate", "--sasl-credentials-file", users, "--credential-map-file", file)
	client := func(user string) *kgo.Client {
		login := scram.Auth{User: user, Pass: user + "-at-klink"}.AsSha512Mechanism()
		return kafkatest.NewClient(t, m.options(kgo.SASL(login), kgo.SeedBrokers(k.Bootstrap()))...)
	}
	if err := produceOne(ctx, client("alice"), "orders"); err != nil {
		t.Error(err)
	}
	if err := produceOne(ctx, client("alice"), "other"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("the mapped client has klink's rights: %v", err)
	}
	// An entry without a certificate does not borrow klink's.
	if err := client("bob").Ping(ctx); err == nil {
		t.Error("a client without a certificate at the broker was let in")
	}
}
