package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unready is a `klink serve` that may never become ready.
type unready struct {
	*Command
	bootstrap, http string
}

func serveUnready(t *testing.T, destination *kafkatest.Cluster, properties string) unready {
	t.Helper()
	base := kafkatest.FreePorts(t, maxBrokers+2)
	u := unready{bootstrap: fmt.Sprintf("127.0.0.1:%d", base), http: fmt.Sprintf("127.0.0.1:%d", base+1+maxBrokers)}
	u.Command = StartCommand(t, t.TempDir(), nil, "serve", "--destination", destination.Bootstrap(),
		"--destination-config", properties, "--listen", u.bootstrap, "--http", u.http)
	return u
}

func (u unready) ready() bool {
	resp, err := http.Get("http://" + u.http + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stealAdmin is the attack: a client that shows nothing creates a topic and gives itself an ACL.
func stealAdmin(t *testing.T, bootstrap string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(bootstrap), kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "stolen"); err != nil {
		return err
	}
	acl := kadm.NewACLs().Allow("User:mallory").AllowHosts("*").Topics("*").
		ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAll)
	_, err := adm.CreateACLs(ctx, acl)
	return err
}

// TestClientsDoNotGetKlinksCertificate: where a certificate says who a client is, and klink showed
// its own for its clients, whoever reaches klink would be klink. So serve refuses to start before a
// listener that requires certificates or only asks for them. It does the same when the broker comes
// up after klink. No client gets anything by then.
func TestClientsDoNotGetKlinksCertificate(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"required", "requested"} {
		t.Run(mode, func(t *testing.T) {
			destination := kafkatest.Start(t, kafkatest.MutualTLS(), kafkatest.ClientAuth(mode))
			properties := destination.PropertiesFile(t, kafkatest.SuperUser, "")
			refuses := func(t *testing.T, u unready) {
				t.Helper()
				kafkatest.WaitFor(t, readyTimeout, "serve to refuse", func() (bool, string) {
					if stealAdmin(t, u.bootstrap) == nil {
						t.Fatal("a client without any credentials created a topic and an ACL: it was klink at the brokers")
					}
					if u.ready() {
						t.Fatal("klink calls itself ready")
					}
					select {
					case <-u.Done():
						return true, ""
					default:
						return false, u.Stderr()
					}
				})
				if code := u.ExitCode(); code != 1 {
					t.Errorf("exit code %d", code)
				}
				for _, want := range []string{"asks clients for a certificate", "ssl.client.auth", "SASL_SSL"} {
					if !strings.Contains(u.Stderr(), want) {
						t.Errorf("%q is not in what serve says:\n%s", want, u.Stderr())
					}
				}
				topics, err := kadm.NewClient(destination.Client(t)).ListTopics(t.Context())
				if err != nil || topics.Has("stolen") {
					t.Errorf("topics %v, %v", topics.Names(), err)
				}
			}
			t.Run("broker is up", func(t *testing.T) { refuses(t, serveUnready(t, destination, properties)) })
			t.Run("broker comes up later", func(t *testing.T) {
				destination.Brokers()[0].Kill()
				u := serveUnready(t, destination, properties)
				kafkatest.WaitFor(t, readyTimeout, "klink to wait for its brokers", func() (bool, string) {
					return strings.Contains(u.Stderr(), "does not know the destination's brokers yet"), u.Stderr()
				})
				destination.Brokers()[0].Restart(t)
				refuses(t, u)
			})
		})
	}
}
