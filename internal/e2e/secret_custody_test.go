package e2e

import (
	"strings"
	"sync"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAlterDoesNotGetThePassword: mallory may alter the destination cluster, and so its links, but
// does not know the password that the link has at the source. She changes the link so that klink
// would log in to a server of hers. That server sees nothing.
func TestAlterDoesNotGetThePassword(t *testing.T) {
	kafkatest.Require(t)
	const mallory, hers = "mallory", "mallory-secret"
	e := newSecured(t, secured{users: []string{mallory, hers}})
	rs, err := e.dst.CreateACLs(e.ctx, kadm.NewACLs().Allow("User:"+mallory).AllowHosts("*").
		ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAlter, kadm.OpDescribe).Clusters())
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs)
	}
	var mu sync.Mutex
	var caught []string
	server := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", linkerUser, linkerPassword))
	server.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		server.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		caught = append(caught, string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes))
		return nil, nil, false
	})
	there := "bootstrap.servers=" + server.ListenAddrs()[0]
	as := []string{"--command-config", e.destination.PropertiesFile(t, mallory, hers)}
	for _, args := range [][]string{
		{"--dry-run", "--config", there},
		{"--config", there},
		{"--config", "bootstrap.servers=" + e.source.Bootstrap() + "," + server.ListenAddrs()[0]},
		{"--config", there, "--config", "security.protocol=SASL_PLAINTEXT", "--config", "client.id=mallory"},
	} {
		_, stderr, code := e.k.CLI(t, append(append([]string{"link", "update", "east"}, args...), as...)...)
		if code != 1 || !strings.Contains(stderr, "same request") || !strings.Contains(stderr, "sasl.jaas.config") {
			mu.Lock()
			t.Errorf("klink link update %q: exit code %d; mallory's server was sent %q\n%s", args, code, caught, stderr)
			mu.Unlock()
		}
		if strings.Contains(stderr, linkerPassword) {
			t.Fatalf("the error shows the password: %s", stderr)
		}
	}
	// What decides nothing about secrets she may alter, as before.
	e.k.MustCLI(t, append([]string{"link", "update", "east", "--config", "metadata.max.age.ms=1000"}, as...)...)
	// Who has the password may move the link; the source is the same cluster.
	e.k.MustCLI(t, "link", "update", "east", "--config", "bootstrap.servers="+e.source.Bootstrap()+","+e.source.Bootstrap(),
		"--config", "sasl.jaas.config="+e.source.ClientProperties(linkerUser, linkerPassword)["sasl.jaas.config"])
	mu.Lock()
	defer mu.Unlock()
	if len(caught) > 0 {
		t.Fatalf("mallory's server was sent %q", caught)
	}
}
