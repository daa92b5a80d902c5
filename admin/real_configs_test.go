package admin

import (
	"context"
	"maps"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
)

// realWorld is a world of two Apache Kafka clusters.
func realWorld(t *testing.T, src, dst *kafkatest.Cluster) *world {
	w := realService(t, src, dst)
	w.replicator()
	return w
}

// realService is realWorld without a replicator.
func realService(t *testing.T, src, dst *kafkatest.Cluster) *world {
	w := &world{
		t: t, seeds: []string{dst.Bootstrap()},
		sourceAdmin: kadm.NewClient(src.Client(t, kafkaclient.FreshMetadata)), destAdmin: kadm.NewClient(dst.Client(t, kafkaclient.FreshMetadata)),
	}
	service, err := New(Config{
		Destination: clientOptions(t, dst.Bootstrap()), Logger: testLogger(t), ReconcileInterval: 100 * time.Millisecond,
		Publish: func(s *router.Snapshot) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.snap = s
		},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, service.Start(ctx))
	require.NoError(t, service.waitReady(ctx))
	w.service = service
	return w
}

// linkTo creates a link to a source, with configs given as key=value.
func (w *world) linkTo(src *kafkatest.Cluster, name string, configs ...string) {
	w.t.Helper()
	address := src.Bootstrap()
	link := linkapi.CreateLink{Name: name, Configs: []linkapi.Config{{Name: linkconfig.ConfigBootstrapServers, Value: &address}}}
	resp := w.service.HandleLink(context.Background(), &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{link}}).(*linkapi.CreateLinksResponse)
	require.Zero(w.t, resp.Results[0].ErrorCode, text(resp.Results[0].ErrorMessage))
	if len(configs) > 0 {
		w.setLink(name, configs...)
	}
	w.t.Cleanup(func() {
		w.service.HandleLink(context.Background(), &linkapi.DeleteLinksRequest{Force: true, Names: []string{name}})
	})
}

// TestRealTopicConfigsFollow: the configs of mirrors between Apache Kafka clusters follow the
// source within the interval, whatever is changed on either side. A config that does not follow is
// shown, and a stop leaves the source's own values.
func TestRealTopicConfigsFollow(t *testing.T) {
	src, dst := kafkatest.Shared(t, "source"), kafkatest.Shared(t, "destination")
	w := realWorld(t, src, dst)
	const topic, link, task = "follows", "follow", "TopicConfigsSync"
	w.linkTo(src, link, linkconfig.ConfigTopicSyncMs+"=500")
	kafkatest.CreateTopic(t, src.Client(t), topic, 2, 1, map[string]string{"retention.ms": "1000000000", "compression.type": "lz4"})
	r := w.mirror(topic, link)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors[topic].State == model.MirrorActive })
	w.awaitTask(link, task, model.TaskActive)
	w.awaitDrift(topic)

	// within waits until the first run of the task that begins after a change has set the configs.
	// The broker that is asked may learn of them a bit later.
	within := func(what string, change func(), want map[string]string) {
		t.Helper()
		t.Log(what)
		change()
		w.awaitTask(link, task, model.TaskActive)
		w.awaitConfigs(topic, want)
	}
	atSource := func(configs map[string]string) func() {
		return func() { w.setSource(topic, configs) }
	}
	atMirror := func(configs map[string]string) func() {
		return func() { setConfigs(t, w.destAdmin, topic, configs) }
	}

	changed := map[string]string{"retention.ms": "2000000000", "max.message.bytes": "3000000", "cleanup.policy": "compact,delete", "max.compaction.lag.ms": "86400000"}
	within("what was changed at the source follows", atSource(changed), changed)
	within("what goes back to its default follows", atSource(map[string]string{"retention.ms": "", "max.compaction.lag.ms": ""}),
		map[string]string{"retention.ms": "604800000", "max.compaction.lag.ms": "9223372036854775807"})
	w.setSource(topic, map[string]string{"max.message.bytes": "1000"})
	w.awaitTask(link, task, model.TaskActive)
	require.Equal(t, "3000000", w.configsOf(topic)["max.message.bytes"], "what the source took before must still fit")

	within("what was changed at the destination's broker is set back", atMirror(map[string]string{"retention.ms": "1000"}), map[string]string{"retention.ms": "604800000"})
	within("and so is what a mirror needs", atMirror(map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "zstd", "message.timestamp.after.max.ms": ""}),
		map[string]string{"message.timestamp.type": "CreateTime", "compression.type": "producer", "message.timestamp.after.max.ms": "9223372036854775807"})

	w.setSource(topic, map[string]string{"message.timestamp.type": "LogAppendTime"})
	awaitState(t, w.service, "the timestamp type of the source is known", func(s *model.State) bool { return s.Mirrors[topic].LogAppendTime })
	w.awaitConfigs(topic, map[string]string{"message.timestamp.type": "CreateTime"})

	w.setSource(topic, map[string]string{"min.insync.replicas": "2", "file.delete.delay.ms": "1234"})
	w.awaitDrift(topic, drifts("file.delete.delay.ms", "1234", "60000"), drifts("min.insync.replicas", "2", "1"))
	require.NotContains(t, w.configsOf(topic), "min.insync.replicas")
	setConfigs(t, w.destAdmin, topic, map[string]string{"flush.messages": "10"})
	w.awaitDrift(topic, drifts("file.delete.delay.ms", "1234", "60000"), drifts("flush.messages", "9223372036854775807", "10"), drifts("min.insync.replicas", "2", "1"))
	within("a config that the link includes from now on", func() {
		w.setLink(link, linkconfig.ConfigTopicSyncInclude+"=retention.ms,min.insync.replicas,flush.messages")
	}, map[string]string{"min.insync.replicas": "2", "flush.messages": "9223372036854775807"})
	w.awaitDrift(topic, drifts("file.delete.delay.ms", "1234", "60000"))
	require.Subset(t, w.snapshot().Mirrors[topic].SyncedConfigs, map[string]bool{"min.insync.replicas": true, "cleanup.policy": true, "message.timestamp.type": true})
	require.NotContains(t, w.snapshot().Mirrors[topic].SyncedConfigs, "file.delete.delay.ms")
	within("a config that the link includes no longer stays as it was", func() {
		w.setLink(link, linkconfig.ConfigTopicSyncInclude+"=retention.ms")
		setConfigs(t, w.destAdmin, topic, map[string]string{"min.insync.replicas": "1"})
	}, map[string]string{"min.insync.replicas": "1"})
	w.awaitDrift(topic, drifts("file.delete.delay.ms", "1234", "60000"), drifts("min.insync.replicas", "2", "1"))

	// A paused link leaves both clusters alone.
	w.setLink(link, linkconfig.ConfigLinkPaused+"=true")
	require.Equal(t, string(model.TaskPaused), w.task(link, task).State)
	w.setSource(topic, map[string]string{"retention.ms": "3000000000"})
	const beside = "follow-beside" // has runs at the same interval
	w.linkTo(src, beside, linkconfig.ConfigTopicSyncMs+"=500")
	w.runs(beside, task)
	require.Equal(t, "604800000", w.configsOf(topic)["retention.ms"])
	within("what was changed meanwhile follows after the pause", func() { w.setLink(link, linkconfig.ConfigLinkPaused+"=false") }, map[string]string{"retention.ms": "3000000000"})
	awaitState(t, w.service, "ACTIVE again", func(s *model.State) bool { return s.Mirrors[topic].State == model.MirrorActive })

	// Stop gives the topic the source's own current values.
	w.setSource(topic, map[string]string{"compression.type": "snappy", "message.timestamp.before.max.ms": "86400000"})
	w.awaitTask(link, task, model.TaskActive)
	stopped := w.alter(topic, linkapi.MirrorFailover)
	require.Zero(t, stopped.ErrorCode, text(stopped.ErrorMessage))
	w.awaitConfigs(topic, map[string]string{
		"message.timestamp.type": "LogAppendTime", "compression.type": "snappy", "message.timestamp.before.max.ms": "86400000",
		"message.timestamp.after.max.ms": "3600000", "max.message.bytes": "1000", "retention.ms": "3000000000", "cleanup.policy": "compact,delete",
	})
	require.Empty(t, w.describe(w.service, topic).ConfigDrift)
	w.setSource(topic, map[string]string{"retention.ms": "1"})
	before := w.configsOf(topic)
	w.runs(link, task)
	after := w.configsOf(topic)
	require.True(t, maps.Equal(before, after), "a stopped mirror follows nothing: %v, %v", before, after)
}

// TestRealSourceAwayAndBack: while their source is killed the tasks of a link report that. They go
// on by themselves when it is back.
func TestRealSourceAwayAndBack(t *testing.T) {
	src, dst := kafkatest.Start(t), kafkatest.Shared(t, "destination")
	w := realWorld(t, src, dst)
	const topic, link, task = "away", "away", "TopicConfigsSync"
	w.linkTo(src, link, linkconfig.ConfigTopicSyncMs+"=500")
	kafkatest.CreateTopic(t, src.Client(t), topic, 1, 1, nil)
	r := w.mirror(topic, link)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors[topic].State == model.MirrorActive })
	w.awaitTask(link, task, model.TaskActive)

	broker := src.Brokers()[0]
	began := time.Now()
	broker.Kill()
	bad := w.awaitTask(link, task, model.TaskInError)
	t.Logf("%s after %s: %s", bad.Errors[0].Code, time.Since(began), bad.Errors[0].Message)
	require.Equal(t, string(model.ErrBootstrapConnection), bad.Errors[0].Code)
	require.Less(t, bad.LastSuccessTimeMs, bad.LastRunTimeMs)
	w.report(model.Event{Kind: model.EventLinkDown, Link: link, Error: model.ErrBootstrapConnection, Message: "as the replicator finds"})
	w.awaitTask(link, task, model.TaskInError)

	broker.Restart(t)
	w.report(model.Event{Kind: model.EventLinkUp, Link: link})
	good := w.awaitTask(link, task, model.TaskActive)
	require.Empty(t, good.Errors)
	w.setSource(topic, map[string]string{"retention.ms": "77000000"})
	w.awaitConfigs(topic, map[string]string{"retention.ms": "77000000"})
}
