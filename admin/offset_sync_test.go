package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/admin/offsets"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/internal/batchtest"
	"klink/internal/parallel"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const allGroups = `consumer.offset.group.filters={"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}`

// offsetWorld is a world with a link "l" that syncs offsets of all groups ten times a second,
// unless more says otherwise, and a mirror "orders" of two partitions that end at 100 and 50.
func offsetWorld(t *testing.T, more ...string) *world {
	w := newWorld(t)
	w.replicator()
	configs := more
	for _, c := range []string{"consumer.offset.sync.enable=true", "consumer.offset.sync.ms=100", allGroups} {
		key, _, _ := strings.Cut(c, "=")
		if !slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, key+"=") }) {
			configs = append(configs, c)
		}
	}
	r := w.link("l", configs...)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	w.plainMirror("orders", 2)
	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 100}, model.PartitionStatus{MirrorEnd: 50})
	return w
}

// atSource commits offsets for a group at the source.
func (w *world) atSource(group, topic, metadata string, offsets ...int64) {
	var os kadm.Offsets
	for p, o := range offsets {
		os.Add(kadm.Offset{Topic: topic, Partition: int32(p), At: o, LeaderEpoch: 7, Metadata: metadata})
	}
	require.NoError(w.t, w.sourceAdmin.CommitAllOffsets(context.Background(), group, os))
}

// awaitOffset waits until a group has an offset at the destination.
func (w *world) awaitOffset(group, topic string, partition int32, at int64) {
	w.t.Helper()
	got := kadm.Offset{At: -2}
	require.Eventually(w.t, func() bool {
		fetched, err := w.destAdmin.FetchOffsets(context.Background(), group)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return false
		}
		require.NoError(w.t, err)
		o, _ := fetched.Lookup(topic, partition)
		got = o.Offset
		return got.At == at
	}, 10*time.Second, 10*time.Millisecond, "group %s should have %d in %s-%d", group, at, topic, partition)
}

// none checks that a group has no offsets at the destination.
func (w *world) none(group string) {
	w.t.Helper()
	fetched, err := w.destAdmin.FetchOffsets(context.Background(), group)
	if err != nil {
		require.ErrorIs(w.t, err, kerr.GroupIDNotFound)
	}
	require.Empty(w.t, fetched.Offsets(), group)
}

// task returns the status of the task after a run that begins after the call.
func (s *Service) offsetTask(t *testing.T, link string) model.TaskStatus {
	t.Helper()
	status := func() model.TaskStatus {
		for _, status := range s.linkTasks(s.State().Links[link]) {
			if status.Name == consumerOffsetTask.name {
				return status
			}
		}
		t.Fatal("no such task")
		return model.TaskStatus{}
	}
	if status().State == model.TaskNotConfigured {
		return status()
	}
	// The next run may have begun already; the one after it begins after now.
	for range 2 {
		last := status().LastRun
		require.Eventually(t, func() bool { return status().LastRun.After(last) }, 10*time.Second, time.Millisecond)
	}
	return status()
}

func (w *world) migrate(group string, change ...func(*linkapi.MigrateGroupsRequest)) linkapi.MigratedGroup {
	req := &linkapi.MigrateGroupsRequest{TimeoutMs: 20_000, Groups: []linkapi.MigrateGroup{{Group: group, Link: "l"}}}
	for _, c := range change {
		c(req)
	}
	return w.service.HandleLink(context.Background(), req).(*linkapi.MigrateGroupsResponse).Results[0]
}

// TestOffsetSync: the groups that the filters name get the source's offsets at the destination,
// metadata included, for mirrors only. An offset beyond the mirror's end is clamped, and raised
// later.
func TestOffsetSync(t *testing.T) {
	w := offsetWorld(t, `consumer.offset.group.filters={"groupFilters":[
		{"name":"app-","patternType":"PREFIXED","filterType":"INCLUDE"},{"name":"app-not","patternType":"LITERAL","filterType":"EXCLUDE"}]}`)
	w.sourceTopic("other", 1, nil)
	_, err := w.destAdmin.CreateTopic(context.Background(), 1, 1, nil, "other")
	require.NoError(t, err)
	w.atSource("app-a", "orders", "mine", 40, 50)
	w.atSource("app-a", "other", "", 7)
	w.atSource("app-clamped", "orders", "", 105, 60)
	w.atSource("app-not", "orders", "", 1)
	w.atSource("else", "orders", "", 1)
	w.awaitOffset("app-a", "orders", 0, 40)
	w.awaitOffset("app-a", "orders", 1, 50)
	w.awaitOffset("app-clamped", "orders", 0, 100)
	o := w.committed("app-a", "orders", 0)
	require.Equal(t, "mine", o.Metadata)
	require.EqualValues(t, -1, o.LeaderEpoch)

	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 110}, model.PartitionStatus{MirrorEnd: 55})
	w.awaitOffset("app-clamped", "orders", 0, 105)
	w.awaitOffset("app-clamped", "orders", 1, 55)
	status := w.service.offsetTask(t, "l")
	require.Equal(t, model.TaskActive, status.State, "%v", status.Errors)
	w.none("app-not")
	w.none("else")
	fetched, err := w.destAdmin.FetchOffsets(context.Background(), "app-a")
	require.NoError(t, err)
	_, ok := fetched.Lookup("other", 0)
	require.False(t, ok, "no mirror")

	// The destination follows the source forward, back, and to other metadata. A group that is
	// deleted at the source stays.
	w.atSource("app-a", "orders", "mine", 44, 20)
	w.awaitOffset("app-a", "orders", 0, 44)
	w.awaitOffset("app-a", "orders", 1, 20)
	w.atSource("app-a", "orders", "other", 44)
	require.Eventually(t, func() bool { return w.committed("app-a", "orders", 0).Metadata == "other" }, 10*time.Second, 10*time.Millisecond)
	_, err = w.sourceAdmin.DeleteGroups(context.Background(), "app-a")
	require.NoError(t, err)
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 44, w.committed("app-a", "orders", 0).At)

	// A stopped mirror has offsets of its own. (The log of this one is empty, so the stop finds its
	// end at 0.)
	require.Zero(t, w.alter("orders", linkapi.MirrorFailover).ErrorCode)
	w.atSource("app-clamped", "orders", "", 107)
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 0, w.committed("app-clamped", "orders", 0).At)
}

// TestOffsetSyncEnds: if the replicator of this process knows no end, or an old one, klink learns
// the end from the destination's log.
func TestOffsetSyncEnds(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l", "consumer.offset.sync.enable=true", "consumer.offset.sync.ms=100", allGroups).ErrorCode)
	w.plainMirror("orders", 1)
	w.replicator()
	dst := kafkatest.NewClient(t, kgo.SeedBrokers(w.seeds...))
	batchtest.Append(t, dst, "orders", 0, 6, 3)
	batchtest.Append(t, dst, "orders", 0, 20, 2)
	w.atSource("g", "orders", "", 30)
	w.awaitOffset("g", "orders", 0, 22)
	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 9})
	batchtest.Append(t, dst, "orders", 0, 22, 2)
	w.awaitOffset("g", "orders", 0, 24)
}

// TestOffsetSyncLeavesActiveGroups: the task names a group that is active at the destination and
// leaves it alone; it syncs the others.
func TestOffsetSyncLeavesActiveGroups(t *testing.T) {
	w := offsetWorld(t)
	w.active("busy", "orders", 10)
	w.atSource("busy", "orders", "", 20)
	w.atSource("idle", "orders", "", 20)
	w.awaitOffset("idle", "orders", 0, 20)
	status := w.service.offsetTask(t, "l")
	require.Equal(t, model.TaskInError, status.State)
	require.Len(t, status.Errors, 1)
	require.Equal(t, model.ErrGroupInUse, status.Errors[0].Code)
	require.Contains(t, status.Errors[0].Message, "group 'busy' is active at the destination (Stable)")
	require.EqualValues(t, 10, w.committed("busy", "orders", 0).At)

	// A broker that does not list the states of groups refuses the commit.
	hide := w.destination.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListGroups}, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	status = w.service.offsetTask(t, "l")
	require.Len(t, status.Errors, 1, "%v", status.Errors)
	require.Equal(t, model.ErrGroupInUse, status.Errors[0].Code)
	require.Contains(t, status.Errors[0].Message, "group 'busy' is active at the destination (it has members)")
	require.EqualValues(t, 10, w.committed("busy", "orders", 0).At)
	hide.Remove()

	// The task names the group even if there is nothing to write.
	w.atSource("busy", "orders", "", 5)
	status = w.service.offsetTask(t, "l")
	require.Len(t, status.Errors, 1, "%v", status.Errors)
	require.Equal(t, model.ErrGroupInUse, status.Errors[0].Code)

	r := w.migrate("busy")
	require.Equal(t, kerr.NonEmptyGroup.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "CONSUMER_GROUP_IN_USE_ERROR: group 'busy' is active at the destination")
	require.NotContains(t, w.service.State().Links["l"].Configs[linkconfig.ConfigGroupFilters], "busy")
}

// TestOffsetSyncKeepsProgress: klink never sets back an offset that was committed at the
// destination since klink wrote. Nor does it overrule a reset there while the group rests at the
// source. Both hold after a restart of klink, too.
func TestOffsetSyncKeepsProgress(t *testing.T) {
	w := offsetWorld(t)
	w.atSource("ahead", "orders", "", 20)
	w.atSource("reset", "orders", "", 20)
	w.atSource("follows", "orders", "", 20)
	for _, group := range []string{"ahead", "reset", "follows"} {
		w.awaitOffset(group, "orders", 0, 20)
	}
	w.commit("ahead", "orders", "", 80)
	w.commit("reset", "orders", "", 5)
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 80, w.committed("ahead", "orders", 0).At)
	require.EqualValues(t, 5, w.committed("reset", "orders", 0).At)
	w.atSource("ahead", "orders", "", 30)
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 80, w.committed("ahead", "orders", 0).At)

	// The memory is stored some seconds later.
	var stored *store.OffsetsRecord
	l := w.service.State().Links["l"]
	require.Eventually(t, func() bool {
		stored = w.service.store.Offsets("l", l.ID)
		if stored == nil {
			return false
		}
		p := stored.Prints()
		ahead := map[offsets.Partition]int64{{Topic: "orders", Partition: 0}: 30}
		return p[offsets.HashGroup("ahead")] == store.GroupPrint{Source: offsets.HashOffsets(ahead)} && p[offsets.HashGroup("follows")].Wrote != store.OffsetHash{}
	}, 3*offsets.SaveEvery, 50*time.Millisecond)
	w.service.Close()
	w.commit("ahead", "orders", "", 90)
	w.atSource("ahead", "orders", "", 10)
	w.atSource("follows", "orders", "", 15)
	w.service = w.start()
	w.replicator()
	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 100}, model.PartitionStatus{MirrorEnd: 50})
	w.awaitOffset("follows", "orders", 0, 15) // klink's own goes back with the source, even after a restart
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 90, w.committed("ahead", "orders", 0).At)
	require.EqualValues(t, 5, w.committed("reset", "orders", 0).At)
	w.atSource("reset", "orders", "", 25)
	w.awaitOffset("reset", "orders", 0, 25) // the group goes on at the source

	// The memory is deleted with the link.
	require.Zero(t, w.alter("orders", linkapi.MirrorFailover).ErrorCode)
	deleted := w.service.HandleLink(context.Background(), &linkapi.DeleteLinksRequest{Names: []string{"l"}, Force: true}).(*linkapi.DeleteLinksResponse)
	require.Zero(t, deleted.Results[0].ErrorCode, text(deleted.Results[0].ErrorMessage))
	require.Nil(t, w.service.store.Offsets("l", l.ID))
}

// TestOffsetSyncAnotherSourceTopic: offsets of a topic that was deleted and created again at the
// source are not taken for a step back, even before the mirror has FAILED.
func TestOffsetSyncAnotherSourceTopic(t *testing.T) {
	w := offsetWorld(t)
	w.atSource("g", "orders", "", 20)
	w.awaitOffset("g", "orders", 0, 20)
	_, err := w.sourceAdmin.DeleteTopics(context.Background(), "orders")
	require.NoError(t, err)
	w.sourceTopic("orders", 2, nil)
	w.sourceAdmin = kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...))) // knows the new topic id
	w.atSource("g", "orders", "", 3)
	w.service.offsetTask(t, "l")
	require.EqualValues(t, 20, w.committed("g", "orders", 0).At)
}

// TestOffsetSyncErrors: the task names the groups for which something fails, and syncs the others.
func TestOffsetSyncErrors(t *testing.T) {
	w := offsetWorld(t)
	refuse := w.destination.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	for i := range 8 {
		w.atSource(fmt.Sprintf("g%d", i), "orders", "", 20)
	}
	status := w.service.offsetTask(t, "l")
	require.Equal(t, model.TaskInError, status.State)
	require.Len(t, status.Errors, 1, "%v", status.Errors)
	require.Equal(t, model.ErrAuthorization, status.Errors[0].Code)
	require.Contains(t, status.Errors[0].Message, "groups g0, g1, g2, g3, g4 and 3 more: could not commit offsets of topic 'orders' at the destination: TOPIC_AUTHORIZATION_FAILED")
	refuse.Remove()
	for i := range 8 {
		w.awaitOffset(fmt.Sprintf("g%d", i), "orders", 0, 20)
	}
	refuse = w.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListGroups}, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	status = w.service.offsetTask(t, "l")
	require.Len(t, status.Errors, 1, "%v", status.Errors)
	require.Equal(t, model.ErrAuthorization, status.Errors[0].Code)
	refuse.Remove()
	w.atSource("g0", "orders", "", 30)
	w.awaitOffset("g0", "orders", 0, 30)
}

// TestFinalOffsetSync: at the end a promotion carries over the offsets for its mirrors, as the
// filters say, while they are PENDING_STOPPED.
func TestFinalOffsetSync(t *testing.T) {
	w := newWorld(t)
	r := w.link("l", "consumer.offset.sync.enable=true", "consumer.offset.sync.ms=3600000", allGroups)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	w.plainMirror("orders", 1)
	w.plainMirror("rest", 1)
	w.reporter = &fakeReplicator{status: map[string][]model.PartitionStatus{}}
	w.service.SetReporter(w.reporter)
	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 100})
	w.reporter.set("rest", model.PartitionStatus{MirrorEnd: 100})
	require.Eventually(t, func() bool { // it has run, and will not again
		return !w.service.linkTasks(w.service.State().Links["l"])[slices.Index(tasks, consumerOffsetTask)].LastRun.IsZero()
	}, 10*time.Second, time.Millisecond)
	w.atSource("g", "orders", "", 105)
	w.atSource("g", "rest", "", 20)
	go w.alter("orders", linkapi.MirrorFailover)
	awaitState(t, w.service, "the stop to begin", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorPendingStopped })
	l := w.service.State().Links["l"]
	require.Empty(t, w.service.syncOffsetsOf(context.Background(), l, []string{"orders", "nosuch"}))
	require.EqualValues(t, 100, w.committed("g", "orders", 0).At)
	fetched, err := w.destAdmin.FetchOffsets(context.Background(), "g")
	require.NoError(t, err)
	_, ok := fetched.Lookup("rest", 0)
	require.False(t, ok)
	w.active("busy", "orders", 1)
	w.atSource("busy", "orders", "", 7)
	errs := w.service.syncOffsetsOf(context.Background(), l, []string{"orders"})
	require.Len(t, errs, 1)
	require.Equal(t, model.ErrGroupInUse, errs[0].Code)

	notes := w.service.finalOffsets(context.Background(), "l", []string{"orders"})
	require.Len(t, notes["orders"], 1)
	require.Contains(t, notes["orders"][0], "CONSUMER_GROUP_IN_USE_ERROR: group 'busy'")

	// STOPPED: never again.
	w.report(model.Event{Kind: model.EventMirrorDrained, Topic: "orders", Ended: endedAt([2]int64{100, 100})})
	awaitState(t, w.service, "the stop to end", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorStopped })
	w.atSource("g", "orders", "", 90)
	require.Empty(t, w.service.syncOffsetsOf(context.Background(), l, []string{"orders"}))
	require.EqualValues(t, 100, w.committed("g", "orders", 0).At)

	// A link that syncs no offsets needs no source for it.
	none := *l
	none.Configs = map[string]string{linkconfig.ConfigBootstrapServers: "127.0.0.1:1"}
	require.Empty(t, w.service.syncOffsetsOf(context.Background(), &none, []string{"rest"}))
	none.Configs = map[string]string{linkconfig.ConfigBootstrapServers: "127.0.0.1:1", linkconfig.ConfigOffsetSync: "true", linkconfig.ConfigGroupFilters: l.Configs[linkconfig.ConfigGroupFilters]}
	errs = w.service.syncOffsetsOf(context.Background(), &none, []string{"rest"})
	require.Len(t, errs, 1)
	require.Equal(t, model.ErrBootstrapConnection, errs[0].Code)
}

// TestMigrateGroup: the last sync of a group, its report, and its exclusion.
func TestMigrateGroup(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.enable=false")
	require.Equal(t, model.TaskNotConfigured, w.service.offsetTask(t, "l").State)
	w.atSource("g", "orders", "mine", 20, 60)
	dry := w.migrate("g", func(r *linkapi.MigrateGroupsRequest) { r.ValidateOnly = true })
	require.Zero(t, dry.ErrorCode, text(dry.ErrorMessage))
	want := []linkapi.MigratedPartition{
		{Topic: "orders", Partition: 0, SourceOffset: 20, DestinationOffset: 20},
		{Topic: "orders", Partition: 1, SourceOffset: 60, DestinationOffset: 50, ClampedBy: 10},
	}
	require.Equal(t, want, dry.Partitions)
	w.none("g")
	require.NotContains(t, w.service.State().Links["l"].Configs[linkconfig.ConfigGroupFilters], `"g"`)

	// The migration waits for a mirror that is behind.
	time.AfterFunc(500*time.Millisecond, func() {
		w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 100}, model.PartitionStatus{MirrorEnd: 60})
	})
	w.commit("g", "orders", "", 5) // somebody tried it at the destination
	r := w.migrate("g")
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	want[1].DestinationOffset, want[1].ClampedBy = 60, 0
	require.Equal(t, want, r.Partitions)
	require.Equal(t, "mine", w.committed("g", "orders", 0).Metadata)
	filters, err := filter.ParseGroups(w.service.State().Links["l"].Configs[linkconfig.ConfigGroupFilters])
	require.NoError(t, err)
	require.False(t, filters.Match("g"))
	require.True(t, filters.Match("h"))

	// The command may be repeated, also after the group has gone on at the destination.
	r = w.migrate("g")
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	w.commit("g", "orders", "", 70)
	r = w.migrate("g")
	require.EqualValues(t, 70, r.Partitions[0].DestinationOffset)
	filters, err = filter.ParseGroups(w.service.State().Links["l"].Configs[linkconfig.ConfigGroupFilters])
	require.NoError(t, err)
	require.Len(t, filters, 2, "excluded once")

	for name, c := range map[string]struct {
		group, link string
		code        *kerr.Error
		text        string
	}{
		"no link":       {"g", "nosuch", kerr.ResourceNotFound, `"nosuch"`},
		"no group":      {"nosuch", "l", kerr.GroupIDNotFound, "no group 'nosuch'"},
		"of all groups": {"*", "l", kerr.InvalidGroupID, "no filter can exclude"},
		"no offsets":    {"other", "l", kerr.GroupIDNotFound, "no committed offset"},
	} {
		if c.group == "other" {
			w.sourceTopic("unmirrored", 1, nil)
			w.atSource("other", "unmirrored", "", 1)
		}
		r := w.migrate(c.group, func(r *linkapi.MigrateGroupsRequest) { r.Groups[0].Link = c.link })
		require.Equal(t, c.code.Code, r.ErrorCode, name)
		require.Contains(t, text(r.ErrorMessage), c.text, name)
	}
}

// TestMigrateActiveGroup: a group that is active at the source is refused, unless forced.
func TestMigrateActiveGroup(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.enable=false")
	w.atSource("g", "orders", "", 20)
	joined := make(chan struct{})
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"),
		kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { close(joined) }))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go cl.PollFetches(ctx)
	<-joined
	r := w.migrate("g")
	require.Equal(t, kerr.NonEmptyGroup.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "group 'g' is active at the source")
	w.none("g")
	r = w.migrate("g", func(r *linkapi.MigrateGroupsRequest) { r.Groups[0].Force = true })
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	require.EqualValues(t, 20, w.committed("g", "orders", 0).At)
}

// TestMigrateManyGroupsAtOnce: no exclusion is lost, even if the link is changed at the same time.
func TestMigrateManyGroupsAtOnce(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.enable=false")
	other := w.start()
	const n = 20
	for i := range n {
		w.atSource(fmt.Sprint("g", i), "orders", "", 20)
	}
	var all sync.WaitGroup
	for i := range n {
		s := []*Service{w.service, other}[i%2]
		all.Go(func() {
			req := &linkapi.MigrateGroupsRequest{TimeoutMs: 20_000, Groups: []linkapi.MigrateGroup{{Group: fmt.Sprint("g", i), Link: "l"}}}
			r := s.HandleLink(context.Background(), req).(*linkapi.MigrateGroupsResponse).Results[0]
			if r.ErrorCode != 0 {
				t.Error(text(r.ErrorMessage))
			}
		})
	}
	all.Wait()
	require.NoError(t, w.service.store.Sync(context.Background()))
	filters, err := filter.ParseGroups(w.service.store.State().Links["l"].Configs[linkconfig.ConfigGroupFilters])
	require.NoError(t, err)
	require.Len(t, filters, n+1)
	for i := range n {
		require.False(t, filters.Match(fmt.Sprint("g", i)))
	}
}

// TestOffsetSyncScale: 5,000 groups of 20 partitions are synced with a bounded number of requests,
// and cost next to nothing when nothing has changed.
func TestOffsetSyncScale(t *testing.T) {
	const groups, partitions = 5000, 20
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", "consumer.offset.sync.enable=true", "consumer.offset.sync.ms=3600000").ErrorCode)
	w.plainMirror("orders", partitions)
	ends, committed := make([]model.PartitionStatus, partitions), make([]int64, partitions)
	for p := range ends {
		ends[p].MirrorEnd, committed[p] = 1000, int64(p)
	}
	w.reporter.set("orders", ends...)
	parallel.ForEach(groups, func(i int) { w.atSource(fmt.Sprint("g", i), "orders", "", committed...) })

	var mu sync.Mutex
	counts := map[string]int{}
	for name, c := range map[string]*kfake.Cluster{"source": w.source, "destination": w.destination} {
		c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			mu.Lock()
			defer mu.Unlock()
			counts[name+" "+kmsg.NameForKey(req.Key())]++
			return nil, nil, false
		})
	}
	l := w.service.State().Links["l"]
	changed := *l
	changed.Configs = map[string]string{}
	for k, v := range l.Configs {
		changed.Configs[k] = v
	}
	changed.Configs[linkconfig.ConfigGroupFilters] = allGroups[len(linkconfig.ConfigGroupFilters)+1:]
	source, failed := sources.Connect(context.Background(), kafkaclient.Files{}, "l", l.Configs)
	require.Nil(t, failed)
	defer source.Close()
	var memory any
	run := func() (took time.Duration, counted map[string]int) {
		mu.Lock()
		clear(counts)
		mu.Unlock()
		begun := time.Now()
		r := &taskRun{link: &changed, source: source, memory: memory}
		require.Empty(t, syncConsumerOffsets(context.Background(), w.service, r))
		memory = r.memory
		mu.Lock()
		defer mu.Unlock()
		counted = map[string]int{}
		for k, n := range counts {
			counted[k] = n
		}
		return time.Since(begun), counted
	}
	bounded := func(counted map[string]int, commits int) {
		t.Helper()
		const chunks = groups / offsets.GroupsAtOnce
		require.Equal(t, commits, counted["destination OffsetCommit"])
		for _, side := range []string{"source ", "destination "} {
			require.LessOrEqual(t, counted[side+"ListGroups"], 2)
			require.LessOrEqual(t, counted[side+"OffsetFetch"], chunks+1)
			require.LessOrEqual(t, counted[side+"FindCoordinator"], 2*chunks+1)
		}
	}
	took, counted := run()
	t.Logf("%d groups of %d partitions: %v, %v", groups, partitions, took, counted)
	bounded(counted, groups)
	require.Less(t, took, 30*time.Second)
	took, counted = run()
	t.Logf("again, nothing has changed: %v, %v", took, counted)
	bounded(counted, 0)
	committed[3]++
	for i := range 10 {
		w.atSource(fmt.Sprint("g", i), "orders", "", committed...)
	}
	_, counted = run()
	bounded(counted, 10)
	require.EqualValues(t, 4, w.committed("g5", "orders", 3).At)
}
