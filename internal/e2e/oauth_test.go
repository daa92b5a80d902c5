package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

const (
	// tokenLife is how long tokens live in these tests, and sessionLife how long a broker lets a
	// session last at most: klink has to log in again every few seconds.
	tokenLife, sessionLife = 6 * time.Second, 4 * time.Second
	tokenSecret            = "tok3n/secret+1"
)

// tokens is a source and a destination whose users have tokens, and klink between them, which has,
// too.
type tokens struct {
	*exact
	t           *testing.T
	issuer, own *kafkatest.Issuer // of the source, and of the destination
	dir         string            // of --link-file-directories
}

func newTokens(t *testing.T) tokens {
	t.Helper()
	x := tokens{t: t, issuer: kafkatest.NewIssuer(t), own: kafkatest.NewIssuer(t), dir: t.TempDir(), exact: &exact{}}
	for _, side := range []struct {
		to     **kafkatest.Cluster
		issuer *kafkatest.Issuer
	}{{&x.source, x.issuer}, {&x.destination, x.own}} {
		side.issuer.SetSecret(kafkatest.SuperUser, tokenSecret)
		side.issuer.SetLifetime(tokenLife)
		*side.to = kafkatest.Start(t, kafkatest.SASLPlaintext(), kafkatest.OAuthBearer(side.issuer, sessionLife), kafkatest.WithFaults())
	}
	var cancel context.CancelFunc
	x.ctx, cancel = context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	own := kafkatest.WriteProperties(t, x.own.Properties("SASL_PLAINTEXT", kafkatest.SuperUser, tokenSecret))
	x.k = StartKlink(t, x.destination, "--destination-config", own, "--own-principal", "User:"+kafkatest.SuperUser,
		"--allow-plaintext-secrets", "--link-file-directories", x.dir)
	x.k.commandConfig = own
	accountAt(t, x.source.Bootstrap(), x.source)
	accountAt(t, x.destination.Bootstrap(), x.destination)
	accountAt(t, x.k.Bootstrap(), x.destination)
	return x
}

// linkProperties are properties for a link, which names no file.
func (x tokens) linkProperties(t *testing.T, secret string) map[string]string {
	t.Helper()
	p := x.issuer.Properties("SASL_PLAINTEXT", kafkatest.SuperUser, secret)
	p["bootstrap.servers"] = x.source.Bootstrap()
	ca := strings.ReplaceAll(x.issuer.CA(t), "\n", `\n`)
	p["sasl.jaas.config"] = regexp.MustCompile(`ssl.truststore.location="[^"]*"`).ReplaceAllLiteralString(p["sasl.jaas.config"], `ssl.truststore.certificates="`+ca+`"`)
	return p
}

// create makes a link, and a mirror of a topic of its name; the topic gets records until the whole
// test ends.
func (x tokens) create(t *testing.T, link string, properties map[string]string) {
	t.Helper()
	x.k.MustCLI(t, "link", "create", link, "--config-file", kafkatest.WriteProperties(t, properties), "--config", "metadata.max.age.ms=1000")
	cl := x.source.Client(x.t)
	kafkatest.CreateTopic(t, cl, link, 2, 1, nil)
	x.k.MustCLI(t, "topic", "create", link, "--link", link)
	ctx, cancel := context.WithCancel(x.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			cl.ProduceSync(ctx, &kgo.Record{Topic: link, Partition: int32(i % 2), Value: fmt.Appendf(nil, "record %d", i)})
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	x.t.Cleanup(func() { cancel(); <-done })
}

// goesOn waits until the mirror has more records than now.
func (x tokens) goesOn(t *testing.T, topic string) {
	t.Helper()
	end := func() (n int64, text string) {
		d, err := describeMirror(t, x.k, topic)
		for _, p := range d.Partitions {
			n += p.MirrorEndOffset
		}
		return n, fmt.Sprintf("%+v %v", d, err)
	}
	before, _ := end()
	kafkatest.WaitFor(t, time.Minute, "mirror "+topic+" to go on", func() (bool, string) {
		now, text := end()
		return now > before, text
	})
}

// TestTokens: SASL/OAUTHBEARER on all sides, with tokens that live for seconds.
func TestTokens(t *testing.T) {
	t.Parallel()
	x := newTokens(t)
	t.Run("many tokens", x.manyTokens)
	t.Run("clients", x.clients)
	t.Run("outage", x.outage)
	t.Run("secrets", x.secrets)
	t.Run("file", x.file)
	if log := x.k.Log(t); strings.Contains(log, tokenSecret) {
		t.Errorf("the log has the secret:\n%s", log)
	}
}

// manyTokens: neither mirroring nor klink's own work notices that sessions end.
func (x tokens) manyTokens(t *testing.T) {
	x.create(t, "east", x.linkProperties(t, tokenSecret))
	x.goesOn(t, "east")
	quiet, before := len(x.k.Log(t)), x.source.Brokers()[0].Faults().Accepted()
	issued := x.issuer.Issued()
	kafkatest.WaitFor(t, 3*time.Minute, "many tokens", func() (bool, string) {
		d, err := describeMirror(t, x.k, "east")
		if err != nil || d.State != "ACTIVE" && d.State != "PENDING_MIRROR" || d.Error != "" {
			t.Fatalf("%+v %v", d, err)
		}
		n := x.issuer.Issued() - issued
		return n >= 15, fmt.Sprint(n)
	})
	x.goesOn(t, "east")
	if more := x.source.Brokers()[0].Faults().Accepted() - before; more > 0 {
		t.Errorf("klink has made %d more connections to the source: it shall log in again on those that it has", more)
	}
	for line := range strings.Lines(x.k.Log(t)[quiet:]) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			t.Errorf("klink complains: %s", line)
		}
	}
}

// clients: a client that logs in through klink with tokens logs in again on the same connection.
func (x tokens) clients(t *testing.T) {
	var logins atomic.Int64
	login := kgo.SASL(oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		logins.Add(1)
		return oauth.Auth{Token: x.own.Token(t, kafkatest.SuperUser, tokenLife)}, nil
	}))
	conns := &connections{}
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(x.k.Bootstrap()), login, kgo.WithHooks(conns), kgo.ConsumeTopics("plain", "east"))
	kafkatest.CreateTopic(t, x.destination.Client(t), "plain", 1, 1, nil)
	seen := map[string]int{}
	kafkatest.WaitFor(t, 2*time.Minute, "many logins", func() (bool, string) {
		if err := cl.ProduceSync(x.ctx, &kgo.Record{Topic: "plain", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(x.ctx, 200*time.Millisecond)
		defer cancel()
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(topic string, _ int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s: %v", topic, err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) { seen[r.Topic]++ })
		again := logins.Load() - conns.opened.Load()
		return again >= 10 && seen["plain"] > 0 && seen["east"] > 0, fmt.Sprintf("%d logins again, records %v", again, seen)
	})
	if n := conns.closed.Load(); n > 0 {
		t.Errorf("%d connections were closed", n)
	}

	expired := kafkatest.NewClient(t, kgo.SeedBrokers(x.k.Bootstrap()), kgo.SASL(oauth.Auth{Token: x.own.Token(t, kafkatest.SuperUser, -time.Minute)}.AsMechanism()))
	ctx, cancel := context.WithTimeout(x.ctx, time.Minute)
	defer cancel()
	if err := expired.Ping(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with an expired token: %v", err)
	}
}

// connections counts the connections of a client that it has opened, and lost.
type connections struct{ opened, closed atomic.Int64 }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		c.opened.Add(1)
	}
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (c *connections) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { c.closed.Add(1) }

// outage: while the token endpoint is down, mirroring goes on for as long as the token lives; then
// the link says what is wrong, and recovers with the endpoint.
func (x tokens) outage(t *testing.T) {
	x.issuer.SetLifetime(20 * time.Second)
	x.k.MustCLI(t, "link", "update", "east", "--config", "client.id=with-longer-tokens")
	x.goesOn(t, "east")
	x.issuer.SetDown(true)
	x.goesOn(t, "east")
	awaitLinkState(t, x.k, "east", "UNAVAILABLE", "AUTHENTICATION_ERROR")
	stdout, _, _ := x.k.CLI(t, "link", "describe", "east", "-o", "json")
	for _, want := range []string{"token endpoint", "answers 503", "sasl.oauthbearer.token.endpoint.url"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in %s", want, stdout)
		}
	}
	x.issuer.SetDown(false)
	awaitLinkState(t, x.k, "east", "ACTIVE", "")
	x.goesOn(t, "east")
	x.issuer.SetLifetime(tokenLife)

	// klink's own login at the destination. Commands log in otherwise meanwhile.
	tokenUser, quiet := x.k.commandConfig, len(x.k.Log(t))
	x.k.commandConfig = x.destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	defer func() { x.k.commandConfig = tokenUser }()
	x.own.SetDown(true)
	kafkatest.WaitFor(t, time.Minute, "klink to miss its tokens", func() (bool, string) {
		log := x.k.Log(t)[quiet:]
		return strings.Contains(log, "answers 503"), log
	})
	x.own.SetDown(false)
	x.goesOn(t, "east")
}

// secrets: a wrong secret is refused by name; one that was changed stops the link until it is told
// the new one; and the endpoint changes only together with the secret.
func (x tokens) secrets(t *testing.T) {
	const wrong = "wr0ng/secret"
	_, stderr, code := x.k.CLI(t, "link", "create", "west", "--config-file", kafkatest.WriteProperties(t, x.linkProperties(t, wrong)))
	if code != 1 || !strings.Contains(stderr, "AUTHENTICATION_ERROR") || !strings.Contains(stderr, "invalid_client") || strings.Contains(stderr, wrong) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	_, stderr, code = x.k.CLI(t, "link", "update", "east", "--config", "sasl.oauthbearer.token.endpoint.url=https://127.0.0.1:1/token")
	if code != 1 || !strings.Contains(stderr, "same request") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	const next = "tok3n/secret+2"
	x.issuer.SetSecret(kafkatest.SuperUser, next)
	awaitLinkState(t, x.k, "east", "UNAVAILABLE", "AUTHENTICATION_ERROR")
	x.k.MustCLI(t, "link", "update", "east", "--config", "sasl.jaas.config="+x.linkProperties(t, next)["sasl.jaas.config"])
	awaitLinkState(t, x.k, "east", "ACTIVE", "")
	x.goesOn(t, "east")
	x.issuer.SetSecret(kafkatest.SuperUser, tokenSecret)
	x.k.MustCLI(t, "link", "update", "east", "--config", "sasl.jaas.config="+x.linkProperties(t, tokenSecret)["sasl.jaas.config"])
	awaitLinkState(t, x.k, "east", "ACTIVE", "")
}

// file: a link whose token another program writes into a file.
func (x tokens) file(t *testing.T) {
	path := filepath.Join(x.dir, "token")
	write := func(lifetime time.Duration) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(x.issuer.Token(t, kafkatest.SuperUser, lifetime)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	p := x.linkProperties(t, "")
	p["sasl.oauthbearer.token.endpoint.url"] = "file:///etc/hostname"
	_, stderr, code := x.k.CLI(t, "link", "create", "files", "--config-file", kafkatest.WriteProperties(t, p))
	if code != 1 || !strings.Contains(stderr, "--link-file-directories") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	write(tokenLife)
	p["sasl.oauthbearer.token.endpoint.url"] = "file://" + path
	p["sasl.jaas.config"] = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
	x.create(t, "files", p)
	for range 3 * int(tokenLife/time.Second) {
		write(tokenLife)
		x.goesOn(t, "files")
		d, err := describeMirror(t, x.k, "files")
		if err != nil || d.State != "ACTIVE" && d.State != "PENDING_MIRROR" {
			t.Fatalf("%+v %v", d, err)
		}
	}
	awaitLinkState(t, x.k, "files", "UNAVAILABLE", "AUTHENTICATION_ERROR")
	write(time.Hour)
	awaitLinkState(t, x.k, "files", "ACTIVE", "")
	x.goesOn(t, "files")
}
