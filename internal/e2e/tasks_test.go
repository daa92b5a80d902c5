package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPermissionsFollow: issue 5, points 3 and 6. What somebody may do with a topic, and how it is
// configured, is at the destination as at the source, over a klink that is killed and one that
// takes its place; what others have granted there stays.
func TestPermissionsFollow(t *testing.T) {
	t.Parallel()
	e := newSecured(t, secured{
		topics: []string{"orders"}, grants: []string{grantACLs, grantInstances},
		link: []string{"topic.config.sync.ms=500"}, users: []string{"alice", "alice-secret"},
	})
	f := &followed{exact: e}
	e.createSource(t, "orders", 2)
	produceVaried(e.ctx, t, e.source, "orders", 0, 20)
	e.mirror(t, "orders")
	awaitMirror(t, e.k, e.source, "orders")
	_ = t.Run("ACLs", f.acls) && t.Run("configs", f.configs) && t.Run("another instance", f.anotherInstance)
}

type followed struct {
	*exact
	before []string // the ACLs of the destination without those of these tests
	linker []string // the ACLs on topics that the link's own user has at the source, which the filter matches as well
}

// An ACL as the tests write it: principal, operation, name of the topic.
const (
	aliceReads = "User:alice READ orders"
	bobWrites  = "User:bob WRITE orders"
	bothRead   = "User:both READ orders"  // at the source, and granted at the destination by others
	localReads = "User:local READ orders" // at the destination alone
	carolReads = "User:carol READ orders"
)

func aclBuilder(acl string) *kadm.ACLBuilder {
	f := strings.Fields(acl)
	op, err := kmsg.ParseACLOperation(f[1])
	if err != nil {
		panic(err)
	}
	return kadm.NewACLs().Allow(f[0]).AllowHosts("*").Topics(f[2]).ResourcePatternType(kadm.ACLPatternLiteral).Operations(op)
}

func (f *followed) grant(t *testing.T, adm *kadm.Client, acls ...string) {
	t.Helper()
	for _, acl := range acls {
		rs, err := adm.CreateACLs(f.ctx, aclBuilder(acl))
		if err != nil || len(rs) != 1 || rs[0].Err != nil {
			t.Fatalf("%s: %v, %+v", acl, err, rs)
		}
	}
}

func (f *followed) revoke(t *testing.T, adm *kadm.Client, acl string) {
	t.Helper()
	rs, err := adm.DeleteACLs(f.ctx, aclBuilder(acl))
	if err != nil || len(rs) != 1 || rs[0].Err != nil || len(rs[0].Deleted) != 1 {
		t.Fatalf("%s: %v, %+v", acl, err, rs)
	}
}

// list is all ACLs of a cluster, in order.
func (f *followed) list(adm *kadm.Client) []string {
	rs, err := adm.DescribeACLs(f.ctx, kadm.NewACLs().AnyResource().Allow().Deny().AllowHosts().DenyHosts().Operations().ResourcePatternType(kadm.ACLPatternAny))
	if err != nil {
		return []string{err.Error()}
	}
	seen := map[string]bool{}
	for _, r := range rs {
		if r.Err != nil {
			return []string{r.Err.Error()}
		}
		for _, acl := range r.Described {
			seen[fmt.Sprintf("%s %s %s %s %s %s %s", acl.Principal, acl.Host, acl.Type, acl.Pattern, acl.Name, acl.Operation, acl.Permission)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// full is an ACL as list has it.
func full(acl string) string {
	f := strings.Fields(acl)
	return fmt.Sprintf("%s * TOPIC LITERAL %s %s ALLOW", f[0], f[2], f[1])
}

// has waits until the destination has these ACLs, those of the link's user that the filter matches
// where copied, and no others but those that were there.
func (f *followed) has(t *testing.T, copied bool, acls ...string) {
	t.Helper()
	want := slices.Clone(f.before)
	for _, acl := range acls {
		want = append(want, full(acl))
	}
	if copied {
		want = append(want, f.linker...)
	}
	slices.Sort(want)
	kafkatest.WaitFor(t, time.Minute, "the destination to have "+strings.Join(acls, ", "), func() (bool, string) {
		got := f.list(f.dst)
		return slices.Equal(got, want), fmt.Sprintf("it has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	})
}

// aliceMay tries to read as alice through klink.
func (f *followed) aliceMay(t *testing.T) bool {
	t.Helper()
	adm := kadm.NewClient(kafkatest.NewClient(t, append(f.destination.ClientOpts("alice", "alice-secret"), kgo.SeedBrokers(f.k.Bootstrap()))...))
	ends, err := adm.ListEndOffsets(f.ctx, "orders")
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return false
	}
	if o, ok := ends.Lookup("orders", 0); err != nil || !ok || o.Err != nil || o.Offset != 20 {
		t.Fatalf("alice is told that the mirror ends at %+v, %v", o, err)
	}
	return true
}

func (f *followed) acls(t *testing.T) {
	f.before = f.list(f.dst)
	for _, acl := range f.list(f.adm) {
		if strings.Contains(acl, " TOPIC ") {
			f.linker = append(f.linker, acl)
		}
	}
	if len(f.linker) != 3 {
		t.Fatalf("the link's user has the permissions\n%s", strings.Join(f.linker, "\n"))
	}
	f.grant(t, f.adm, aliceReads, bobWrites, bothRead)
	f.grant(t, f.dst, bothRead, localReads)
	f.k.MustCLI(t, "link", "update", "east", "--config", `{"aclFilters":[{"resourceFilter":{"resourceType":"topic"},"accessFilter":{"permissionType":"allow"}}]}`)
	for range 2 { // it changes nothing
		out := f.k.MustCLI(t, "link", "acl", "sync", "east", "--dry-run")
		if !strings.Contains(out, "\n5 to add, 0 to delete, 1 already there.\n") {
			t.Errorf("the dry run says\n%s", out)
		}
	}
	f.has(t, false, bothRead, localReads)
	if f.aliceMay(t) {
		t.Error("alice may read before ACLs are synced")
	}
	f.k.MustCLI(t, "link", "update", "east", "--config", "acl.sync.enable=true", "--config", "acl.sync.ms=500")
	f.has(t, true, aliceReads, bobWrites, bothRead, localReads)
	if !f.aliceMay(t) {
		t.Error("alice may not read what she may read at the source")
	}
	f.revoke(t, f.adm, aliceReads)
	f.revoke(t, f.adm, bothRead)
	f.has(t, true, bobWrites, bothRead, localReads)
	if f.aliceMay(t) {
		t.Error("alice may still read what she may not read at the source any more")
	}

	// What klink remembers is what it may delete.
	f.k.Kill()
	f.revoke(t, f.adm, bobWrites)
	f.grant(t, f.adm, carolReads)
	f.k.Restart()
	f.has(t, true, carolReads, bothRead, localReads)
	if task := f.taskRuns(t, "AclSync"); task.State != "ACTIVE" || len(task.Errors) > 0 {
		t.Errorf("%+v", task)
	}
	f.has(t, true, carolReads, bothRead, localReads)
}

// configs: what is changed at the source follows; what is changed at the destination around klink
// is set back, and refused through klink; what does not follow is shown.
func (f *followed) configs(t *testing.T) {
	at := func(adm *kadm.Client, name string) string {
		rs, err := adm.DescribeTopicConfigs(f.ctx, "orders")
		if err != nil || rs[0].Err != nil {
			t.Fatal(err, rs)
		}
		for _, c := range rs[0].Configs {
			if c.Key == name {
				return c.MaybeValue()
			}
		}
		return ""
	}
	follows := func(what, name, value string) {
		t.Helper()
		kafkatest.WaitFor(t, time.Minute, what, func() (bool, string) {
			got := at(f.dst, name)
			return got == value, name + " = " + got
		})
	}
	setConfig(f.ctx, t, f.adm, "orders", "retention.ms", "1000000000")
	follows("what was changed at the source to follow", "retention.ms", "1000000000")
	setConfig(f.ctx, t, f.dst, "orders", "retention.ms", "2000000000")
	follows("what was changed at the destination to be set back", "retention.ms", "1000000000")
	value := "3000000000"
	through := kadm.NewClient(connect(t, f.k.Bootstrap()))
	if rs, err := through.AlterTopicConfigs(f.ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, "orders"); err != nil || rs[0].Err == nil {
		t.Errorf("klink takes a change of what follows the source: %v, %+v", err, rs)
	}
	setConfig(f.ctx, t, f.adm, "orders", "flush.messages", "5")
	kafkatest.WaitFor(t, time.Minute, "what does not follow to be shown", func() (bool, string) {
		out := f.k.MustCLI(t, "mirror", "describe", "orders")
		return strings.Contains(out, "flush.messages"), out
	})
	if got := at(f.dst, "flush.messages"); got == "5" {
		t.Error("a config that the link does not name has followed")
	}
	if task := f.taskRuns(t, "TopicConfigsSync"); task.State != "ACTIVE" || len(task.Errors) > 0 {
		t.Errorf("%+v", task)
	}
}

// anotherInstance takes the work over, with what was remembered.
func (f *followed) anotherInstance(t *testing.T) {
	first := f.k
	second := startUnprivileged(t, f.destination, "--instance-id", "second")
	kafkatest.WaitFor(t, time.Minute, "the instances to share the work", func() (bool, string) {
		m := second.Metrics(t)
		return strings.Contains(m, "\nklink_task_slots 12\n") && strings.Contains(first.Metrics(t), "\nklink_task_slots 12\n"), ""
	})
	for _, k := range []*Klink{first, second} { // one of them copies, the other hears of it through _klink_tasks
		awaitMirror(t, k, f.source, "orders")
	}
	first.Kill()
	f.revoke(t, f.adm, carolReads)
	f.grant(t, f.adm, aliceReads)
	f.k = second
	f.has(t, true, aliceReads, bothRead, localReads)
	produceVaried(f.ctx, t, f.source, "orders", 1, 20)
	f.compare(t, "orders", 2)
}
