package e2e

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The principals of klink at the destination, and of a link at its source. They may do what
// docs/operations.md says they need, and nothing else.
const (
	klinkUser, klinkPassword   = "klink", "klink-secret"
	linkerUser, linkerPassword = "linker", "linker-secret"
)

// secured says what a test between clusters with SASL and an authorizer is about, so that klink is
// allowed that and no more.
type secured struct {
	topics []string // prefixes of the names of mirrors
	// grants pick, by a part of their text, rows of the tables in docs/operations.md that not
	// everybody needs.
	grants []string
	link   []string // configs
	users  []string // of both clusters besides, as kafkatest.SASLPlaintext takes them
}

// The rows of docs/operations.md that not everybody needs.
const (
	grantACLs      = "acl.sync.enable=true"
	grantMarkers   = "to be [aligned]"
	grantInstances = "where there are several instances"
)

// newSecured is newExact between clusters with SASL and an authorizer. Its clients and commands are
// the super user's, klink and its link are not.
func newSecured(t *testing.T, s secured) *exact {
	t.Helper()
	source := kafkatest.Start(t, kafkatest.SASLPlaintext(append(s.users, linkerUser, linkerPassword)...))
	destination := kafkatest.Start(t, kafkatest.SASLPlaintext(append(s.users, klinkUser, klinkPassword)...))
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	e := &exact{source: source, destination: destination, ctx: ctx}
	e.adm, e.dst = kadm.NewClient(source.Client(t)), kadm.NewClient(destination.Client(t))
	needs := permissions(t)
	s.grant(ctx, t, e.dst, klinkUser, needs[0])
	s.grant(ctx, t, e.adm, linkerUser, needs[1])
	accountAt(t, source.Bootstrap(), source)
	accountAt(t, destination.Bootstrap(), destination)
	e.k = startUnprivileged(t, destination)
	props := source.ClientProperties(linkerUser, linkerPassword)
	props["bootstrap.servers"] = source.Bootstrap()
	args := []string{"link", "create", "east", "--config-file", kafkatest.WriteProperties(t, props)}
	for _, c := range append(joinBelow(), s.link...) {
		args = append(args, "--config", c)
	}
	e.k.MustCLI(t, args...)
	return e
}

// startUnprivileged is StartKlink with klink's own principal, which is no super user.
func startUnprivileged(t testing.TB, destination *kafkatest.Cluster, flags ...string) *Klink {
	t.Helper()
	own := []string{"--destination-config", destination.PropertiesFile(t, klinkUser, klinkPassword), "--allow-plaintext-secrets"}
	k := StartKlink(t, destination, append(own, flags...)...)
	k.commandConfig = destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	accountAt(t, k.Bootstrap(), destination)
	return k
}

// permission is a row of a table of docs/operations.md.
type permission struct {
	resource   string
	operations []kadm.ACLOperation
}

// permissions are the tables of docs/operations.md, "Permissions": what klink needs at the
// destination, and at the source.
func permissions(t testing.TB) (tables [2][]permission) {
	t.Helper()
	_, text, _ := strings.Cut(readPage(t, "operations.md"), "\n## Permissions\n")
	text, _, _ = strings.Cut(text, "\n## ")
	parts := strings.Split(text, "| Resource | Operations |\n|---|---|\n")
	if len(parts) != len(tables)+1 {
		t.Fatalf("%d tables of permissions in docs/operations.md", len(parts)-1)
	}
	for i := range tables {
		table, _, _ := strings.Cut(parts[i+1], "\n\n") // other tables may follow
		for _, m := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \|$`).FindAllStringSubmatch(table, -1) {
			p := permission{resource: m[1]}
			for name := range strings.SplitSeq(m[2], ", ") {
				op, err := kmsg.ParseACLOperation(name)
				if err != nil {
					t.Fatalf("docs/operations.md: %q: %v", m[0], err)
				}
				p.operations = append(p.operations, op)
			}
			tables[i] = append(tables[i], p)
		}
	}
	return tables
}

// grant allows a user what a table says.
func (s secured) grant(ctx context.Context, t testing.TB, adm *kadm.Client, user string, table []permission) {
	t.Helper()
	named := regexp.MustCompile("^(topic|group|transactional id) `(.+?)`")
	optional := regexp.MustCompile(`, (where|for) .*`)
	for _, p := range table {
		if condition := optional.FindString(p.resource); condition != "" && !containsAny(condition, s.grants) {
			continue
		}
		b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(p.operations...)
		switch m := named.FindStringSubmatch(p.resource); {
		case m != nil && m[1] == "topic":
			b.Topics(m[2])
		case m != nil && m[1] == "group":
			b.Groups(m[2])
		case m != nil:
			b.TransactionalIDs(m[2])
		case strings.HasPrefix(p.resource, "topics "):
			b.Topics(s.topics...).ResourcePatternType(kadm.ACLPatternPrefixed)
		case strings.HasPrefix(p.resource, "groups"):
			b.Groups("*")
		case p.resource == "cluster" || strings.HasPrefix(p.resource, "cluster, "):
			b.Clusters()
		default:
			t.Fatalf("docs/operations.md: what is %q?", p.resource)
		}
		rs, err := adm.CreateACLs(ctx, b)
		for _, r := range rs {
			if err == nil {
				err = r.Err
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// accounts are the clusters with users, by the addresses of their brokers and of klink before them:
// a client that is given an address connects as the super user there. Elsewhere it needs no user.
var accounts sync.Map

// accountAt says whose users an address takes until the test ends: then another test may get its
// port.
func accountAt(t testing.TB, bootstrap string, c *kafkatest.Cluster) {
	first, _, _ := strings.Cut(bootstrap, ",")
	accounts.Store(first, c)
	t.Cleanup(func() { accounts.Delete(first) })
}

func account(bootstrap string) *kafkatest.Cluster {
	first, _, _ := strings.Cut(bootstrap, ",")
	c, _ := accounts.Load(first)
	cluster, _ := c.(*kafkatest.Cluster)
	return cluster
}

// clientAt are the options of a client of these brokers, or of klink before them.
func clientAt(bootstrap string, more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(strings.Split(bootstrap, ",")...)}
	if c := account(bootstrap); c != nil {
		opts = append(opts, c.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword)...)
	}
	return append(opts, more...)
}

// connect is a franz-go client of an address, with the user that it takes.
func connect(t testing.TB, bootstrap string, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	return kafkatest.NewClient(t, clientAt(bootstrap, more...)...)
}

// librdkafkaAt and javaAt are the arguments of the other clients for an address.
func librdkafkaAt(bootstrap string) (settings []string) {
	c := account(bootstrap)
	if c == nil {
		return nil
	}
	for _, key := range []string{"security.protocol", "sasl.mechanism"} {
		settings = append(settings, key+"="+c.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)[key])
	}
	return append(settings, "sasl.username="+kafkatest.SuperUser, "sasl.password="+kafkatest.SuperUserPassword)
}

func javaAt(t testing.TB, bootstrap string) []string {
	t.Helper()
	c := account(bootstrap)
	if c == nil {
		return nil
	}
	return []string{"--command-config", c.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)}
}
