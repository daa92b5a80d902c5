package admin

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/aclsync"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclWorld is a world for tests of ACLs. Its methods work on any two clusters.
type aclWorld struct {
	t        testing.TB
	service  *Service
	src, dst *kgo.Client
	grants   []aclsync.Binding // at the destination, for klink itself
}

func newACLWorld(t testing.TB) (*world, *aclWorld) {
	w := newWorld(t)
	client := func(c *kfake.Cluster) *kgo.Client {
		return kafkatest.NewClient(t, kgo.SeedBrokers(c.ListenAddrs()...))
	}
	return w, &aclWorld{t: t, service: w.service, src: client(w.source), dst: client(w.destination)}
}

func (w *aclWorld) create(at *kgo.Client, acls ...string) {
	w.t.Helper()
	for a, err := range aclsync.Create(context.Background(), at, w.acls(acls...)) {
		require.NoError(w.t, err, a)
	}
}

func (w *aclWorld) delete(at *kgo.Client, acls ...string) {
	w.t.Helper()
	for a, err := range aclsync.Delete(context.Background(), at, w.acls(acls...)) {
		require.NoError(w.t, err, a)
	}
}

func (w *aclWorld) acls(texts ...string) (acls []aclsync.Binding) {
	for _, text := range texts {
		acls = append(acls, parseACL(w.t, text))
	}
	return acls
}

// has waits until the destination has these ACLs and no others.
func (w *aclWorld) has(want ...string) {
	w.t.Helper()
	set := aclsync.Set{}
	set.Add(w.acls(want...)...)
	set.Add(w.grants...)
	require.EventuallyWithT(w.t, func(t *assert.CollectT) {
		found, err := aclsync.Describe(context.Background(), w.dst, aclsync.Any)
		require.NoError(t, err)
		require.Equal(t, aclsync.Sorted(set), aclsync.Sorted(found))
	}, 20*time.Second, 20*time.Millisecond)
}

// remembers is what klink remembers for a link.
func (w *aclWorld) remembers(link string, want ...string) {
	w.t.Helper()
	set := aclsync.Set{}
	set.Add(w.acls(want...)...)
	require.NoError(w.t, w.service.store.Sync(context.Background()))
	require.EventuallyWithT(w.t, func(t *assert.CollectT) {
		require.NoError(t, w.service.store.Read(func(tx *store.Tx) error {
			l, err := tx.Link(link)
			require.NoError(t, err)
			id := ""
			if l != nil {
				id = l.ID
			}
			acls, err := tx.ACLs(link, id)
			require.NoError(t, err)
			require.Equal(t, aclsync.Sorted(set), aclsync.Sorted(acls))
			return nil
		}))
	}, 20*time.Second, 20*time.Millisecond)
}

func (w *aclWorld) set(link string, configs ...string) {
	w.t.Helper()
	alter := linkapi.AlterLink{Name: link}
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		alter.Configs = append(alter.Configs, linkapi.AlterConfig{Name: key, Op: linkapi.ConfigSet, Value: &value})
	}
	r := w.service.HandleLink(context.Background(), &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{alter}}).(*linkapi.AlterLinkConfigsResponse).Results[0]
	require.Zero(w.t, r.ErrorCode, text(r.ErrorMessage))
}

// task waits until the ACL task of a link has made one more complete run, and returns its status.
func (w *aclWorld) task(link string) model.TaskStatus {
	w.t.Helper()
	w.taskSince(link, time.Now()) // this run may have begun before the call
	return w.taskSince(link, time.Now())
}

// taskSince waits for a run of the ACL task that began after the given time.
func (w *aclWorld) taskSince(link string, began time.Time) (status model.TaskStatus) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		for _, s := range w.service.linkTasks(w.service.State().Links[link]) {
			if s.Name == aclTask.name {
				status = s
			}
		}
		return status.LastRun.After(began)
	}, 20*time.Second, 10*time.Millisecond, "the task has not run")
	return status
}

func (w *aclWorld) sync(link string, dry bool) *linkapi.SyncACLsResponse {
	return w.service.HandleLink(context.Background(), &linkapi.SyncACLsRequest{Link: link, ValidateOnly: dry}).(*linkapi.SyncACLsResponse)
}

func (w *aclWorld) deleteLink(link string) {
	w.t.Helper()
	r := w.service.HandleLink(context.Background(), &linkapi.DeleteLinksRequest{Names: []string{link}}).(*linkapi.DeleteLinksResponse).Results[0]
	require.Zero(w.t, r.ErrorCode, text(r.ErrorMessage))
}

// The configs of a link that syncs topic ACLs often, and of one that syncs them only on request
// (and once at the start).
var (
	topicACLs = "acl.filters=" + aclFiltersOf(`"resourceType":"topic"`, ``)
	everyACL  = `acl.filters={"aclFilters":[{"resourceFilter":{"resourceType":"topic"},"accessFilter":{}},{"resourceFilter":{"resourceType":"GROUP"},"accessFilter":{}}]}`
)

const (
	aclsOn  = "acl.sync.enable=true"
	aclsOff = "acl.sync.enable=false"
	often   = "acl.sync.ms=100"
	seldom  = "acl.sync.ms=3600000"
)

// The steps of testACLSync are also taken on Apache Kafka.
func TestACLSync(t *testing.T) {
	w, a := newACLWorld(t)
	testACLSync(t, a, func(configs ...string) { require.Zero(t, w.link("l", configs...).ErrorCode) })
}

const (
	aliceReads  = "TOPIC LITERAL orders User:alice * READ ALLOW"
	bobWrites   = "TOPIC PREFIXED ord User:bob 10.0.0.1 WRITE DENY"
	carolReads  = "TOPIC LITERAL * User:carol * DESCRIBE ALLOW"
	groupOfBob  = "GROUP LITERAL g User:bob * READ ALLOW"
	localsGroup = "GROUP LITERAL g User:local * READ ALLOW"
)

func testACLSync(t *testing.T, a *aclWorld, link func(configs ...string)) {
	a.create(a.src, aliceReads, bobWrites, carolReads, groupOfBob)
	a.create(a.dst, carolReads, localsGroup) // a local one equal to one of the source, and another
	link(aclsOn, often)
	for _, s := range a.service.linkTasks(a.service.State().Links["l"]) {
		if s.Name == aclTask.name {
			require.Equal(t, model.TaskNotConfigured, s.State, "without filters nothing is synced")
		}
	}
	a.has(carolReads, localsGroup)

	a.set("l", topicACLs)
	a.has(aliceReads, bobWrites, carolReads, localsGroup)
	a.remembers("l", aliceReads, bobWrites)
	require.Equal(t, model.TaskActive, a.task("l").State)

	// Removed at the source: klink's ACL is deleted, the local one stays.
	a.delete(a.src, aliceReads, carolReads)
	a.has(bobWrites, carolReads, localsGroup)
	a.remembers("l", bobWrites)
	a.create(a.src, aliceReads, carolReads)
	a.has(aliceReads, bobWrites, carolReads, localsGroup)

	// Deleted by hand at the destination: it comes back.
	a.delete(a.dst, bobWrites)
	a.has(aliceReads, bobWrites, carolReads, localsGroup)

	// Filters widened and narrowed.
	a.set("l", everyACL)
	a.has(aliceReads, bobWrites, carolReads, groupOfBob, localsGroup)
	a.set("l", "acl.filters="+aclFiltersOf(`"resourceType":"topic"`, `"permissionType":"deny"`))
	a.has(bobWrites, carolReads, localsGroup)
	a.remembers("l", bobWrites)

	// Sync switched off: the ACLs that klink created stay, and klink no longer owns them.
	a.set("l", aclsOff)
	a.remembers("l")
	a.delete(a.src, bobWrites)
	a.set("l", aclsOn, everyACL)
	a.has(aliceReads, bobWrites, carolReads, groupOfBob, localsGroup)
	a.remembers("l", aliceReads, groupOfBob)
	require.Equal(t, model.TaskActive, a.task("l").State)
	a.task("l")
	a.has(aliceReads, bobWrites, carolReads, groupOfBob, localsGroup)

	// Link deleted: the same.
	a.deleteLink("l")
	a.remembers("l")
	a.has(aliceReads, bobWrites, carolReads, groupOfBob, localsGroup)
}

// Run begins a run of the ACL sync in the state of the task's second look.
func (w *aclWorld) run(s *Service, link string) *aclRun {
	w.t.Helper()
	l := s.State().Links[link]
	src, err := sources.Connect(context.Background(), kafkaclient.Files{}, link, l.Configs)
	require.Nil(w.t, err)
	w.t.Cleanup(src.Close)
	require.NoError(w.t, s.store.Fence(context.Background())) // otherwise only decide would notice
	r := &aclRun{s: s, link: l, source: src}
	require.NoError(w.t, r.look(context.Background()))
	require.NoError(w.t, r.propose(context.Background()))
	return r
}

// TestACLSyncDies: klink dies between any two steps of a run, and another process continues.
func TestACLSyncDies(t *testing.T) {
	ctx := context.Background()
	w, a := newACLWorld(t)
	began := time.Now()
	require.Zero(t, w.link("l", aclsOn, seldom, everyACL).ErrorCode)
	a.taskSince("l", began)
	next := func() { // in another process
		t.Helper()
		r := a.run(w.start(), "l")
		require.NoError(t, r.sync(ctx))
		require.Empty(t, r.errors())
	}

	// Dies between the record and the creation.
	a.create(a.src, aliceReads)
	require.NoError(t, a.run(a.service, "l").decide(ctx, "dead"))
	a.has()
	a.remembers("l", aliceReads)
	next()
	a.has(aliceReads)
	a.remembers("l", aliceReads)

	// The same, but the source drops the ACL in between.
	a.create(a.src, bobWrites)
	require.NoError(t, a.run(a.service, "l").decide(ctx, "dead"))
	a.delete(a.src, bobWrites)
	a.remembers("l", aliceReads, bobWrites)
	next()
	a.has(aliceReads)
	a.remembers("l", aliceReads)

	// Dies between the creation and the mark "made": the ACL is deleted once the source drops it.
	a.create(a.src, bobWrites)
	r := a.run(a.service, "l")
	require.NoError(t, r.decide(ctx, "dead"))
	r.apply(ctx)
	a.has(aliceReads, bobWrites)
	a.delete(a.src, bobWrites)
	next()
	a.has(aliceReads)

	// Dies between the deletion and the removal of the record. Then the source has the ACL again,
	// and drops it again.
	a.delete(a.src, aliceReads)
	r = a.run(a.service, "l")
	require.NoError(t, r.decide(ctx, "dead"))
	r.apply(ctx)
	a.has()
	a.remembers("l", aliceReads)
	a.create(a.src, aliceReads)
	next()
	a.has(aliceReads)
	require.NoError(t, a.service.store.Sync(ctx))
	require.NoError(t, r.settle(ctx, "dead"), "the run that was thought dead goes on")
	a.remembers("l", aliceReads)
	a.delete(a.src, aliceReads)
	next()
	a.has()
	a.remembers("l")
}

// TestACLSyncLosesAnAnswer: nobody knows whether the ACL was created.
func TestACLSyncLosesAnAnswer(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		w, a := newACLWorld(t)
		ctx, began := context.Background(), time.Now()
		require.Zero(t, w.link("l", aclsOn, seldom, everyACL).ErrorCode)
		a.taskSince("l", began)
		a.create(a.src, aliceReads)
		r := a.run(a.service, "l")
		require.NoError(t, r.decide(ctx, "1"))
		if arrived {
			r.apply(ctx)
		}
		r.results = aclsync.Results{parseACL(t, aliceReads): kerr.RequestTimedOut}
		require.NoError(t, r.settle(ctx, "1"))
		require.Contains(t, r.errors()[0].Message, "User:alice")
		a.remembers("l", aliceReads)
		a.delete(a.src, aliceReads)
		r = a.run(a.service, "l")
		require.NoError(t, r.sync(ctx))
		a.has()
		a.remembers("l")
	}
}

// TestACLSyncIsRefused: an ACL that the destination refused is not klink's when somebody creates it
// by hand.
func TestACLSyncIsRefused(t *testing.T) {
	w, a := newACLWorld(t)
	a.create(a.src, aliceReads, bobWrites, carolReads)
	var tries atomic.Int32
	w.destination.ControlKey(int16(kmsg.CreateACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		tries.Add(1)
		create := req.(*kmsg.CreateACLsRequest)
		resp := create.ResponseKind().(*kmsg.CreateACLsResponse)
		for range create.Creations {
			result := kmsg.NewCreateACLsResponseResult()
			result.ErrorCode, result.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("no such principal here")
			resp.Results = append(resp.Results, result)
		}
		return resp, nil, true
	})
	require.Zero(t, w.link("l", aclsOn, often, everyACL).ErrorCode)
	status := a.task("l")
	require.Equal(t, model.TaskInError, status.State)
	require.Len(t, status.Errors, 1, "one reason, one error")
	require.Contains(t, status.Errors[0].Message, "no such principal here")
	require.Contains(t, status.Errors[0].Message, "and 2 more ACLs")
	a.remembers("l")
	require.Equal(t, status.Errors, a.task("l").Errors)
	require.EqualValues(t, 1, tries.Load(), "not tried again at once, but shown")
	a.create(a.src, groupOfBob)
	require.Contains(t, a.task("l").Errors[0].Message, "and 3 more ACLs")
	require.EqualValues(t, 2, tries.Load())
	a.remembers("l")
}

// TestACLSyncErrors: each error has its name, and says what to do.
func TestACLSyncErrors(t *testing.T) {
	failing := func(code *kerr.Error) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
			resp.ErrorCode = code.Code
			return resp, nil, true
		}
	}
	for _, c := range []struct {
		name   string
		Source bool
		key    kmsg.Key
		fault  func(kmsg.Request) (kmsg.Response, error, bool)
		code   model.Error
		text   []string
	}{
		{"no authorizer at the source", true, kmsg.DescribeACLs, failing(kerr.SecurityDisabled), model.ErrSecurityDisabled, []string{"the source", "authorizer.class.name"}},
		{"no authorizer at the destination", false, kmsg.DescribeACLs, failing(kerr.SecurityDisabled), model.ErrSecurityDisabled, []string{"the destination", "authorizer.class.name"}},
		{"not allowed at the source", true, kmsg.DescribeACLs, failing(kerr.ClusterAuthorizationFailed), model.ErrAuthorization, []string{"the source", "grant it DESCRIBE on the cluster"}},
		{"not allowed to look at the destination", false, kmsg.DescribeACLs, failing(kerr.ClusterAuthorizationFailed), model.ErrAuthorization, []string{"the destination", "grant it ALTER on the cluster"}},
		{"not allowed to change the destination", false, kmsg.DescribeCluster, func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
			resp.ClusterAuthorizedOperations = 1 << kmsg.ACLOperationDescribe
			return resp, nil, true
		}, model.ErrAuthorization, []string{"the destination", "grant it ALTER on the cluster"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, a := newACLWorld(t)
			a.create(a.src, aliceReads)
			at := w.destination
			if c.Source {
				at = w.source
			}
			require.Zero(t, w.link("l", aclsOn, often).ErrorCode)
			at.ControlKey(int16(c.key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				at.KeepControl()
				return c.fault(req)
			})
			a.set("l", everyACL)
			status := a.task("l")
			require.Equal(t, model.TaskInError, status.State)
			require.Len(t, status.Errors, 1)
			require.Equal(t, c.code, status.Errors[0].Code)
			for _, text := range c.text {
				require.Contains(t, status.Errors[0].Message, text)
			}
			a.remembers("l")
			if c.key == kmsg.DescribeCluster {
				a.has()
				resp := a.sync("l", false)
				require.Equal(t, kerr.ClusterAuthorizationFailed.Code, resp.ErrorCode)
				require.Zero(t, a.sync("l", true).ErrorCode, "to look is allowed")
			}
		})
	}
}

// TestTwoLinksWantOneACL: the last link that no longer wants the ACL deletes it.
func TestTwoLinksWantOneACL(t *testing.T) {
	w, a := newACLWorld(t)
	other := kafkatest.Embedded(t, 1, kfake.ClusterID("other"))
	b := &aclWorld{t: t, service: a.service, src: kafkatest.NewClient(t, kgo.SeedBrokers(other.ListenAddrs()...)), dst: a.dst}
	a.create(a.src, aliceReads, bobWrites)
	b.create(b.src, aliceReads, carolReads)
	require.Zero(t, w.link("a", aclsOn, often, everyACL).ErrorCode)
	a.has(aliceReads, bobWrites)
	require.Zero(t, w.link("b", aclsOn, often, everyACL, linkconfig.ConfigBootstrapServers+"="+other.ListenAddrs()[0]).ErrorCode)
	a.has(aliceReads, bobWrites, carolReads)
	a.remembers("a", aliceReads, bobWrites)
	a.remembers("b", aliceReads, carolReads)

	a.delete(a.src, aliceReads, bobWrites)
	a.has(aliceReads, carolReads)
	a.remembers("a")
	a.task("a")
	a.has(aliceReads, carolReads)
	b.delete(b.src, aliceReads)
	a.has(carolReads)
	a.remembers("b", carolReads)

	// A deleted link leaves its ACLs in place. Another link that wants one of them treats it as
	// foreign.
	a.deleteLink("b")
	a.create(a.src, carolReads)
	a.task("a")
	a.remembers("a")
	a.delete(a.src, carolReads)
	a.task("a")
	a.task("a")
	a.has(carolReads)
}

// TestOneLookIsNotEnough: klink does not delete an ACL that the source lacks only for a moment.
func TestOneLookIsNotEnough(t *testing.T) {
	w, a := newACLWorld(t)
	a.create(a.src, aliceReads)
	began := time.Now()
	require.Zero(t, w.link("l", aclsOn, seldom, everyACL).ErrorCode)
	a.taskSince("l", began)
	a.has(aliceReads)
	l := a.service.State().Links["l"]
	src, refused := sources.Connect(context.Background(), kafkaclient.Files{}, "l", l.Configs)
	require.Nil(t, refused)
	defer src.Close()
	run := &taskRun{link: l, source: src}
	look := func() {
		t.Helper()
		require.Empty(t, runACLTask(context.Background(), a.service, run))
	}
	look()
	for range 3 {
		a.delete(a.src, aliceReads)
		look()
		a.has(aliceReads)
		a.create(a.src, aliceReads)
		look()
		a.has(aliceReads)
	}
	a.delete(a.src, aliceReads)
	look()
	a.has(aliceReads)
	look()
	a.has()
	a.remembers("l")
}

// TestSyncACLsRequest: a dry run returns the plan; the same request without it carries the plan
// out.
func TestSyncACLsRequest(t *testing.T) {
	w, a := newACLWorld(t)
	require.Zero(t, w.link("l", seldom).ErrorCode)
	for _, link := range []string{"none", "l"} {
		resp := a.sync(link, true)
		require.NotZero(t, resp.ErrorCode)
		require.Contains(t, text(resp.ErrorMessage), link)
	}
	a.create(a.src, aliceReads, bobWrites)
	a.create(a.dst, bobWrites)
	a.set("l", everyACL)
	for range 2 {
		resp := a.sync("l", true)
		require.Zero(t, resp.ErrorCode, text(resp.ErrorMessage))
		require.Equal(t, []linkapi.SyncedACL{parseACL(t, aliceReads).Wire()}, resp.Adds)
		require.Empty(t, resp.Deletes)
		require.Equal(t, []linkapi.SyncedACL{parseACL(t, bobWrites).Wire()}, resp.Present)
		a.has(bobWrites)
	}
	resp := a.sync("l", false)
	require.Equal(t, kerr.InvalidRequest.Code, resp.ErrorCode)
	require.Contains(t, text(resp.ErrorMessage), "acl.sync.enable=true")

	began := time.Now()
	a.set("l", aclsOn)
	a.taskSince("l", began)
	a.has(aliceReads, bobWrites)
	a.delete(a.src, aliceReads)
	a.create(a.src, carolReads)
	managed := parseACL(t, aliceReads).Wire()
	managed.Managed = true
	for _, dry := range []bool{true, false} {
		resp := a.sync("l", dry)
		require.Zero(t, resp.ErrorCode, text(resp.ErrorMessage))
		require.Equal(t, []linkapi.SyncedACL{parseACL(t, carolReads).Wire()}, resp.Adds)
		require.Equal(t, []linkapi.SyncedACL{managed}, resp.Deletes)
		require.Equal(t, []linkapi.SyncedACL{parseACL(t, bobWrites).Wire()}, resp.Present)
	}
	a.has(bobWrites, carolReads)
	a.remembers("l", carolReads)
	a.set("l", linkconfig.ConfigLinkPaused+"=true")
	require.Contains(t, text(a.sync("l", false).ErrorMessage), "PAUSED")
	require.Zero(t, a.sync("l", true).ErrorCode)
}
