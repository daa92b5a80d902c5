package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// allGroups is the config of a link that syncs the offsets of all groups.
const allGroups = `consumer.offset.group.filters={"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}`

// checkedNeed is a need as `klink check -o json` shows it.
type checkedNeed struct {
	Side, Kind, Name, State, Detail, Consequence string
	Required                                     bool
}

// checkCluster runs `klink check` and returns what it shows, and its exit code.
func checkCluster(t *testing.T, k *Klink, args ...string) ([]checkedNeed, int) {
	t.Helper()
	stdout, stderr, code := k.CLI(t, append([]string{"check", "-o", "json"}, args...)...)
	var shown struct {
		ClusterID string `json:"cluster_id"`
		Needs     []checkedNeed
	}
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil {
		t.Fatalf("klink check %v: exit code %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	if shown.ClusterID == "" || len(shown.Needs) < 10 {
		t.Fatalf("klink check %v: %s", args, stdout)
	}
	return shown.Needs, code
}

// notOK returns the needs in other states than ok, as "state name".
func notOK(needs []checkedNeed) map[string]string {
	found := map[string]string{}
	for _, n := range needs {
		if n.State != "ok" {
			found[n.State+" "+n.Name] = n.Detail
		}
	}
	return found
}

// TestCheckReleases checks releases of Apache Kafka as destination and as source: exactly what each
// of them lacks is shown, and nothing that klink cannot do without.
func TestCheckReleases(t *testing.T) {
	t.Parallel()
	other := kafkatest.Start(t)
	front := StartKlink(t, other)
	old := []string{"missing ListTransactions", "missing DescribeTransactions", "unknown all transactional ids: Describe"}
	for _, v := range []struct {
		release             kafkatest.Version
		destination, source []string // what is not ok
	}{
		{kafkatest.V431, nil, nil},
		{kafkatest.V391, nil, nil},
		{kafkatest.V282, old, nil},
		{kafkatest.V241, append([]string{"missing DescribeProducers", "missing DescribeCluster"}, old...), nil},
	} {
		t.Run(string(v.release), func(t *testing.T) {
			c := kafkatest.StartRelease(t, v.release)
			noACLs := []string{"missing DescribeACLs"}
			direct := filepath.Join(t.TempDir(), "klink.config")
			if err := os.WriteFile(direct, []byte("bootstrap.servers="+c.Bootstrap()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if stdout, stderr, code := RunCommand(t, t.TempDir(), "", "check", "--destination-config", direct); code != 0 || !strings.Contains(stdout, "WriteTxnMarkers") {
				t.Errorf("before klink runs: exit code %d\n%s%s", code, stdout, stderr)
			}
			k := StartKlink(t, c)
			link := fmt.Sprintf("from-%c%c", v.release[0], v.release[2])
			k.MustCLI(t, "link", "create", "other", "--config", "bootstrap.servers="+other.Bootstrap())
			front.MustCLI(t, "link", "create", link, "--config", "bootstrap.servers="+c.Bootstrap(), "--config", allGroups)
			topic := "check-" + link
			for _, at := range []*kafkatest.Cluster{c, other} {
				name := topic
				if at == other {
					name += "-other"
				}
				cl := at.Client(t)
				kafkatest.CreateTopic(t, cl, name, 1, 1, nil)
				kafkatest.Produce(t, cl, name, 0, kafkatest.Records(3, 10)...)
				commitAt(t, at, "readers", name, 1)
			}
			k.MustCLI(t, "topic", "create", topic+"-other", "--link", "other", "--mirror-topic", topic+"-other")
			front.MustCLI(t, "topic", "create", topic, "--link", link, "--mirror-topic", topic)
			kafkatest.WaitFor(t, time.Minute, "the mirror's first record", func() (bool, string) {
				n := len(c.ReadAll(t, topic+"-other"))
				return n == 3, fmt.Sprint(n)
			})

			found, code := checkCluster(t, k, "--destination")
			wantNotOK(t, found, append(slices.Clone(v.destination), slices.Concat(noACLs, []string{"missing CreateACLs", "missing DeleteACLs"})...))
			if code != 0 {
				t.Errorf("exit code %d, though nothing is lacking that klink needs", code)
			}
			found, code = checkCluster(t, front, "--link", link)
			wantNotOK(t, found, append(slices.Clone(v.source), noACLs...))
			if code != 0 {
				t.Errorf("exit code %d for the source", code)
			}
		})
	}
}

func wantNotOK(t *testing.T, found []checkedNeed, want []string) {
	t.Helper()
	got := notOK(found)
	names := slices.Sorted(maps.Keys(got))
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("not ok are %q, want %q", names, want)
		for name, detail := range got {
			t.Logf("%s: %s", name, detail)
		}
	}
}

// commitAt commits an offset for a group that has no member.
func commitAt(t *testing.T, at *kafkatest.Cluster, group, topic string, offset int64) {
	t.Helper()
	cl := at.Client(t, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic))
	cl.PollFetches(t.Context())
	if err := cl.CommitRecords(t.Context(), &kgo.Record{Topic: topic, Offset: offset - 1}); err != nil {
		t.Fatal(err)
	}
	cl.CloseAllowingRebalance()
}

// TestCheckRights checks clusters with an authorizer: what docs/operations.md says that klink needs
// is found to be granted, what not everybody needs and klink was not given is denied, and so is
// what is taken away later.
func TestCheckRights(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{topics: []string{"orders"}, grants: []string{grantInstances}, link: []string{allGroups}})
	e.createSource(t, "orders", 1)
	produceVaried(e.ctx, t, e.source, "orders", 0, 20)
	commitAt(t, e.source, "readers", "orders", 3)
	kafkatest.CreateTopic(t, e.destination.Client(t), "others", 1, 1, nil)
	kafkatest.Produce(t, e.destination.Client(t), "others", 0, kafkatest.Records(3, 10)...)
	commitAt(t, e.destination, "readers", "others", 1)
	e.mirror(t, "orders")
	awaitMirror(t, e.k, e.source, "orders")

	needsMore := []string{"denied all transactional ids: Describe", "denied cluster, ACLs: Alter", "denied cluster, markers: Alter"}
	unseen := []string{ // klink's user may not see the configs of brokers, nor create a topic to be validated
		"unknown compaction lags", "unknown configs of mirrors", "unknown endless retention",
		"unknown offsets.retention.minutes", "unknown session time-outs",
	}
	found, code := checkCluster(t, e.k, "--destination")
	wantNotOK(t, found, slices.Concat(needsMore, unseen))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	found, code = checkCluster(t, e.k, "--link", "east")
	wantNotOK(t, found, []string{"denied cluster, ACLs: Describe"})
	if code != 0 {
		t.Errorf("exit code %d for the source", code)
	}

	deny := func(adm *kadm.Client, user string, op kadm.ACLOperation) {
		t.Helper()
		b := kadm.NewACLs().Deny("User:" + user).DenyHosts("*").Topics("orders").ResourcePatternType(kadm.ACLPatternLiteral).Operations(op)
		if _, err := adm.CreateACLs(e.ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	deny(e.dst, klinkUser, kadm.OpWrite)
	deny(e.adm, linkerUser, kadm.OpDescribeConfigs)
	kafkatest.WaitFor(t, time.Minute, "the check to find out", func() (bool, string) {
		there, code1 := checkCluster(t, e.k, "--destination")
		here, code2 := checkCluster(t, e.k, "--link", "east")
		_, denied1 := notOK(there)["denied mirrors: Write"]
		_, denied2 := notOK(here)["denied topics to mirror: DescribeConfigs"]
		return denied1 && denied2 && code1 == 1 && code2 == 1, fmt.Sprint(code1, notOK(there), code2, notOK(here))
	})
}
