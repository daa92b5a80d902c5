package admin

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// setConfigs sets configs of a topic, "" = back to the default.
func setConfigs(t testing.TB, admin *kadm.Client, topic string, configs map[string]string) {
	t.Helper()
	var alter []kadm.AlterConfig
	for name, value := range configs {
		op := kadm.SetConfig
		if value == "" {
			op = kadm.DeleteConfig
		}
		alter = append(alter, kadm.AlterConfig{Op: op, Name: name, Value: &value})
	}
	responses, err := admin.AlterTopicConfigs(context.Background(), alter, topic)
	require.NoError(t, err)
	require.NoError(t, responses[0].Err, responses[0].ErrMessage)
}

// setSource sets configs of a source topic, as setConfigs does, and waits until the source returns
// them: real brokers answer before they have applied what the controller accepted.
func (w *world) setSource(topic string, configs map[string]string) {
	w.t.Helper()
	setConfigs(w.t, w.sourceAdmin, topic, configs)
	kafkatest.WaitFor(w.t, 20*time.Second, "the source to have the configs of "+topic, func() (bool, string) {
		have, err := topicconfig.Describe(context.Background(), w.sourceAdmin, topic)
		require.NoError(w.t, err)
		for name, value := range configs {
			if c := have[name]; c.Explicit != (value != "") || c.Explicit && c.Value != value {
				return false, name + "=" + c.Value
			}
		}
		return true, ""
	})
}

// awaitConfigs waits until a destination topic has these configs set; "" = not set.
func (w *world) awaitConfigs(topic string, want map[string]string) {
	w.t.Helper()
	kafkatest.WaitFor(w.t, 20*time.Second, "the configs of "+topic, func() (bool, string) {
		have := w.configsOf(topic)
		for name, value := range want {
			if have[name] != value {
				return false, name + "=" + have[name] + ", not " + value
			}
		}
		return true, ""
	})
}

// awaitDrift waits until DescribeMirrors shows this drift of a mirror.
func (w *world) awaitDrift(topic string, want ...linkapi.ConfigDrift) {
	w.t.Helper()
	kafkatest.WaitFor(w.t, 20*time.Second, "the drift of "+topic, func() (bool, string) {
		have := w.describe(w.service, topic).ConfigDrift
		return slices.EqualFunc(have, want, func(a, b linkapi.ConfigDrift) bool {
			return a.Name == b.Name && sameValue(a.SourceValue, b.SourceValue) && sameValue(a.MirrorValue, b.MirrorValue)
		}), showDrift(have)
	})
}

func showDrift(drift []linkapi.ConfigDrift) (s string) {
	for _, d := range drift {
		s += d.Name + ": " + text(d.SourceValue) + " at the source, " + text(d.MirrorValue) + " here; "
	}
	return s
}

func drifts(name, source, mirror string) linkapi.ConfigDrift {
	return linkapi.ConfigDrift{Name: name, SourceValue: &source, MirrorValue: &mirror}
}

// TestTopicConfigsFollow: a change at the source's topic reaches the mirror within the interval. A
// change at the mirror around klink is reverted. A difference in a config that does not follow is
// shown.
func TestTopicConfigsFollow(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	w.sourceTopic("orders", 1, map[string]string{"retention.ms": "1000000"})
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	w.awaitDrift("orders")

	w.setSource("orders", map[string]string{
		"retention.ms": "2000000", "max.message.bytes": "3000000", "cleanup.policy": "compact", "segment.bytes": "1000",
		"message.timestamp.type": "LogAppendTime", "compression.type": "lz4",
	})
	w.awaitConfigs("orders", map[string]string{
		"retention.ms": "2000000", "max.message.bytes": "3000000", "cleanup.policy": "compact", "segment.bytes": "1048576",
		"message.timestamp.type": "CreateTime", "compression.type": "producer",
	})
	awaitState(t, w.service, "the timestamp type is known", func(s *model.State) bool { return s.Mirrors["orders"].LogAppendTime })

	setConfigs(t, w.destAdmin, "orders", map[string]string{"retention.ms": "5", "message.timestamp.type": "LogAppendTime", "cleanup.policy": ""})
	w.awaitConfigs("orders", map[string]string{"retention.ms": "2000000", "message.timestamp.type": "CreateTime", "cleanup.policy": "compact"})
	w.setSource("orders", map[string]string{"retention.ms": ""})
	w.awaitConfigs("orders", map[string]string{"retention.ms": "604800000"})

	// Records that the source took under a higher limit may still have to be copied: the mirror
	// gets the lower limit when mirroring stops.
	w.setSource("orders", map[string]string{"max.message.bytes": "2000"})
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	require.Equal(t, "3000000", w.configsOf("orders")["max.message.bytes"])

	w.setSource("orders", map[string]string{"min.insync.replicas": "3"})
	w.awaitDrift("orders", drifts("min.insync.replicas", "3", "1"))
	require.NotContains(t, w.configsOf("orders"), "min.insync.replicas")
	require.False(t, w.snapshot().Mirrors["orders"].SyncedConfigs["min.insync.replicas"], "so clients may set it")
	setConfigs(t, w.destAdmin, "orders", map[string]string{"min.insync.replicas": "2"})
	w.awaitDrift("orders", drifts("min.insync.replicas", "3", "2"))
	w.setLink("l", linkconfig.ConfigTopicSyncInclude+"=retention.ms,min.insync.replicas")
	w.awaitConfigs("orders", map[string]string{"min.insync.replicas": "3"})
	w.awaitDrift("orders", drifts("segment.bytes", "1000", "1048576"))
	require.True(t, w.snapshot().Mirrors["orders"].SyncedConfigs["min.insync.replicas"])
	require.True(t, w.snapshot().Mirrors["orders"].SyncedConfigs["segment.bytes"], "it does not follow, but with a small one brokers refuse batches")

	// A mirror also follows while it waits for its source, or for replicas that its configs
	// require.
	w.report(model.Event{Kind: model.EventMirrorUnavailable, Topic: "orders", Error: model.ErrNotEnoughReplicas, Message: "one is in sync"})
	require.Equal(t, model.MirrorSourceUnavailable, w.service.State().Mirrors["orders"].State)
	w.setSource("orders", map[string]string{"min.insync.replicas": "1"})
	w.awaitConfigs("orders", map[string]string{"min.insync.replicas": "1"})
	w.report(model.Event{Kind: model.EventMirrorRecovered, Topic: "orders"})

	w.setSource("orders", map[string]string{"compression.type": "zstd"})
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	require.Zero(t, w.alter("orders", linkapi.MirrorFailover).ErrorCode)
	w.awaitConfigs("orders", map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "zstd", "retention.ms": "604800000", "max.message.bytes": "2000"})
	require.Empty(t, w.describe(w.service, "orders").ConfigDrift, "an ordinary topic has none")
	setConfigs(t, w.destAdmin, "orders", map[string]string{"retention.ms": "7"})
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	require.Equal(t, "7", w.configsOf("orders")["retention.ms"], "nothing follows any more")
}

// TestTopicConfigsOfMirrorsThatStand: a paused mirror keeps its configs, and follows again when
// resumed. A topic that the source lacks is an error of the task until the mirror itself shows it.
// An error of one mirror does not hold up others.
func TestTopicConfigsOfMirrorsThatStand(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	for _, topic := range []string{"a", "b"} {
		w.sourceTopic(topic, 1, nil)
		require.Zero(t, w.mirror(topic, "l").ErrorCode)
		awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors[topic].State == model.MirrorActive })
	}
	const task = "TopicConfigsSync"
	require.Zero(t, w.alter("a", linkapi.MirrorPause).ErrorCode)
	w.setSource("a", map[string]string{"retention.ms": "1"})
	w.setSource("b", map[string]string{"retention.ms": "2"})
	w.awaitConfigs("b", map[string]string{"retention.ms": "2"})
	w.awaitTask("l", task, model.TaskActive)
	require.NotEqual(t, "1", w.configsOf("a")["retention.ms"])
	require.Zero(t, w.alter("a", linkapi.MirrorResume).ErrorCode)
	w.awaitConfigs("a", map[string]string{"retention.ms": "1"})

	_, err := w.sourceAdmin.DeleteTopics(t.Context(), "a")
	require.NoError(t, err)
	bad := w.awaitTask("l", task, model.TaskInError)
	require.Equal(t, []linkapi.LinkTaskError{{Code: "SOURCE_TOPIC_MAY_BE_DELETED", Message: "topic 'a' does not exist at the source"}}, bad.Errors)
	w.setSource("b", map[string]string{"retention.ms": "3"})
	w.awaitConfigs("b", map[string]string{"retention.ms": "3"})
	w.report(model.Event{Kind: model.EventMirrorUnavailable, Topic: "a", Error: model.ErrSourceTopicMayBeDeleted, Message: "no topic"})
	w.awaitTask("l", task, model.TaskActive)
}

// TestConfigsThatAreRefused: a config that the destination refuses is an error of the task, which
// names topic and config.
func TestConfigsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	w.sourceTopic("orders", 1, nil)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
	w.destination.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		why := "not more than a day"
		r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = kmsg.ConfigResourceTypeTopic, "orders", 44, &why
		resp.Resources = append(resp.Resources, r)
		return resp, nil, true
	})
	w.setSource("orders", map[string]string{"retention.ms": "5000000000"})
	bad := w.awaitTask("l", "TopicConfigsSync", model.TaskInError)
	require.Len(t, bad.Errors, 1)
	require.Equal(t, "POLICY_VIOLATION", bad.Errors[0].Code)
	require.Contains(t, bad.Errors[0].Message, "set the configs [retention.ms] of mirror topic 'orders': ")
	require.Contains(t, bad.Errors[0].Message, "not more than a day")
}

// TestStoppedWhileItsConfigsWereSet: a mirror's configs do not stay if they reach the topic after
// the mirror was stopped.
func TestStoppedWhileItsConfigsWereSet(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l").ErrorCode)
	w.sourceTopic("orders", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
	require.Zero(t, w.alter("orders", linkapi.MirrorFailover).ErrorCode)
	w.awaitConfigs("orders", map[string]string{"message.timestamp.type": "LogAppendTime"})
	setConfigs(t, w.destAdmin, "orders", map[string]string{"message.timestamp.type": "CreateTime"})
	require.NoError(t, w.service.restoreAgain(t.Context(), "orders"))
	w.awaitConfigs("orders", map[string]string{"message.timestamp.type": "LogAppendTime"})
}

func TestDriftOf(t *testing.T) {
	set := func(value string) linkconfig.TopicConfig { return linkconfig.TopicConfig{Value: value, Explicit: true} }
	def := func(value string) linkconfig.TopicConfig { return linkconfig.TopicConfig{Value: value} }
	source := map[string]linkconfig.TopicConfig{
		"follows": set("1"), "same": set("1"), "differs": set("1"), "defaults": def("1"), "only.source": set("1"), "null": {Null: true, Explicit: true},
		"compression.type": set("lz4"), "leader.replication.throttled.replicas": set("*"), "unknown.here": set("9"), "empty": set(""),
	}
	mirror := map[string]linkconfig.TopicConfig{
		"follows": set("2"), "same": def("1"), "differs": def("2"), "defaults": def("2"), "only.mirror": set("3"), "null": set("4"),
		"compression.type": set("producer"), "empty": {Null: true},
	}
	p := func(s string) *string { return &s }
	require.Equal(t, []model.ConfigDrift{
		{Name: "differs", Source: p("1"), Mirror: p("2")},
		{Name: "empty", Source: p(""), Mirror: nil},
		{Name: "null", Source: nil, Mirror: p("4")},
		{Name: "only.mirror", Source: nil, Mirror: p("3")},
		{Name: "only.source", Source: p("1"), Mirror: nil},
		{Name: "unknown.here", Source: p("9"), Mirror: nil},
	}, driftOf(source, mirror, map[string]string{"follows": "1"}))
}

// TestFollowConfigs: FollowConfigs makes configs follow at once, however long the interval. The
// replicator learns of a cleanup policy with compact before the topic has it, and of one without it
// afterwards.
func TestFollowConfigs(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=3600000").ErrorCode)
	w.sourceTopic("orders", 1, nil)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
	kafkatest.WaitFor(t, 20*time.Second, "the only run of the task", func() (bool, string) {
		return w.task("l", "TopicConfigsSync").LastRunTimeMs > 0, ""
	})
	policy := func() string { return w.service.State().Mirrors["orders"].CleanupPolicy }
	require.Equal(t, "delete", policy())
	var mu sync.Mutex
	var asSet []string // the stored policy each time configs were set
	w.destination.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		asSet = append(asSet, policy())
		return nil, nil, false
	})
	follow := func(want bool) {
		t.Helper()
		right, err := w.service.FollowConfigs(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, want, right)
	}
	follow(true)
	w.setSource("orders", map[string]string{"max.message.bytes": "3000000", "cleanup.policy": "compact,delete"})
	follow(false)
	w.awaitConfigs("orders", map[string]string{"max.message.bytes": "3000000", "cleanup.policy": "compact,delete"})
	require.Equal(t, "compact,delete", policy())
	follow(true)
	w.setSource("orders", map[string]string{"cleanup.policy": "delete"})
	follow(false)
	w.awaitConfigs("orders", map[string]string{"cleanup.policy": "delete"})
	require.Equal(t, "delete", policy())
	follow(true)
	mu.Lock()
	stored := slices.Clone(asSet)
	mu.Unlock()
	require.Equal(t, []string{"compact,delete", "compact,delete"}, stored)

	restarted := w.start()
	require.Equal(t, "delete", restarted.State().Mirrors["orders"].CleanupPolicy)

	_, err := w.service.FollowConfigs(t.Context(), "nothing")
	require.ErrorIs(t, err, errNotMirrored)
	require.Zero(t, w.alter("orders", linkapi.MirrorPause).ErrorCode)
	_, err = w.service.FollowConfigs(t.Context(), "orders")
	require.ErrorIs(t, err, errNotMirrored)
	require.Zero(t, w.alter("orders", linkapi.MirrorResume).ErrorCode)
	awaitState(t, w.service, "on again", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
	_, err = w.sourceAdmin.DeleteTopics(t.Context(), "orders")
	require.NoError(t, err)
	_, err = w.service.FollowConfigs(t.Context(), "orders")
	require.ErrorContains(t, err, "describe the configs of topic 'orders'")
}

// TestPolicyOfAMirrorFromBefore: for a mirror that an older klink created, the first run stores the
// policy even if there is nothing to set.
func TestPolicyOfAMirrorFromBefore(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	w.sourceTopic("orders", 1, map[string]string{"cleanup.policy": "compact"})
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	require.NoError(t, w.service.update(t.Context(), func(tx *store.Tx) error {
		m, err := tx.Mirror("orders")
		if err != nil {
			return err
		}
		m = m.Clone()
		m.CleanupPolicy = ""
		return tx.PutMirror("orders", m)
	}))
	awaitState(t, w.service, "the policy", func(s *model.State) bool { return s.Mirrors["orders"].CleanupPolicy == "compact" })
}
