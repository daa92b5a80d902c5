package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// configsOf returns the explicitly set configs of a destination topic.
func (w *world) configsOf(topic string) map[string]string {
	all, err := topicconfig.Describe(context.Background(), w.destAdmin, topic)
	require.NoError(w.t, err)
	set := map[string]string{}
	for name, c := range all {
		if c.Explicit {
			set[name] = c.Value
		}
	}
	return set
}

func (w *world) destinationHas(topic string) bool {
	details, err := w.destAdmin.ListTopics(context.Background(), topic)
	require.NoError(w.t, err)
	return details.Has(topic)
}

// TestMirrorLifecycle: create from a log that starts above 0, describe, pause, fail over, delete.
func TestMirrorLifecycle(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	w.sourceTopic("orders", 2, map[string]string{"retention.ms": "123456789", "compression.type": "lz4"})
	src := kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	kafkatest.Produce(t, src, "orders", 1, kafkatest.Records(10, 20)...)
	kafkatest.DeleteRecordsBefore(t, src, "orders", 1, 7)
	require.Zero(t, w.link("l").ErrorCode)
	r := w.mirror("orders", "l")
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))

	configs := w.configsOf("orders")
	require.Equal(t, "123456789", configs["retention.ms"])
	require.Equal(t, "producer", configs["compression.type"])
	require.Equal(t, "delete", configs["cleanup.policy"])
	m := w.service.State().Mirrors["orders"]
	require.True(t, m.Created)
	require.NotZero(t, m.TopicID)
	require.NotZero(t, m.SourceTopicID)
	require.EqualValues(t, 2, m.Partitions)
	snap := w.snapshot().Mirrors["orders"]
	require.True(t, w.snapshot().Complete)
	require.True(t, snap.ReadOnly)
	require.Equal(t, m.TopicID, snap.TopicID)
	require.True(t, snap.SyncedConfigs["retention.ms"])
	require.EqualValues(t, 0, snap.Timeline(0).Shift())
	require.EqualValues(t, 7, snap.Timeline(1).Shift())
	require.EqualValues(t, 7, snap.Timeline(1).Floor())
	require.Nil(t, snap.Timeline(2))
	awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })

	w.reporter.set("orders", model.PartitionStatus{SourceEnd: 0, MirrorEnd: 0}, model.PartitionStatus{SourceEnd: 10, MirrorEnd: 8, LastFetch: time.UnixMilli(5)})
	d := w.service.HandleLink(context.Background(), &linkapi.DescribeMirrorsRequest{Topics: []string{"orders", "none"}}).(*linkapi.DescribeMirrorsResponse)
	require.Equal(t, linkapi.DescribedPartition{
		Partition: 1, SourceStartOffset: -1, SourceEndOffset: 10, SourceLastStableOffset: -1, MirrorStartOffset: 7, MirrorEndOffset: 8, Lag: 2, LagMs: -1, LastFetchTimeMs: 5,
		Shift: 7, ShiftBegan: 7, ShiftReason: "the mirror began at offset 7 of the source, which is offset 0 in its own log",
	}, d.Mirrors[0].Partitions[1])
	require.True(t, d.Mirrors[0].Partitions[0].Aligned)
	require.False(t, d.Mirrors[0].DirectAccess)
	require.Contains(t, d.Mirrors[0].DirectAccessReason, "1 of 2 partitions have different offsets at the brokers; partition 1 from offset 7 on")
	require.Equal(t, kerr.UnknownTopicOrPartition.Code, d.Mirrors[1].ErrorCode)
	list := w.service.HandleLink(context.Background(), &linkapi.ListMirrorsRequest{}).(*linkapi.ListMirrorsResponse)
	require.Len(t, list.Mirrors, 1)
	require.EqualValues(t, 2, list.Mirrors[0].MaxLag)

	// After a restart on an empty disk everything is there.
	again := w.start().State()
	require.Equal(t, m.TopicID, again.Mirrors["orders"].TopicID)
	require.EqualValues(t, 7, again.Timelines["orders"][1].Shift())

	require.Zero(t, w.alter("orders", linkapi.MirrorPause).ErrorCode)
	require.Equal(t, model.MirrorPaused, w.service.State().Mirrors["orders"].State)
	refused := w.alter("orders", linkapi.MirrorPromote)
	require.Equal(t, kerr.InvalidRequest.Code, refused.ErrorCode)
	require.Contains(t, text(refused.ErrorMessage), "cannot promote: it is PAUSED")
	require.Zero(t, w.alter("orders", linkapi.MirrorResume).ErrorCode)
	require.Equal(t, model.MirrorActive, w.service.State().Mirrors["orders"].State)

	for range 2 { // twice: the second is a no-op
		stopped := w.alter("orders", linkapi.MirrorFailover)
		require.Zero(t, stopped.ErrorCode, text(stopped.ErrorMessage))
		require.Equal(t, model.MirrorStopped, w.service.State().Mirrors["orders"].State)
		require.False(t, w.snapshot().Mirrors["orders"].ReadOnly)
		require.EqualValues(t, 7, w.snapshot().Mirrors["orders"].Timeline(1).Shift(), "still translated")
	}
	require.Equal(t, "lz4", w.configsOf("orders")["compression.type"], "the source's own value")
	w.reporter.set("orders")
	d = w.service.HandleLink(context.Background(), &linkapi.DescribeMirrorsRequest{}).(*linkapi.DescribeMirrorsResponse)
	require.EqualValues(t, 7, d.Mirrors[0].Partitions[1].MirrorEndOffset, "from the destination's log end")

	_, err := w.destAdmin.DeleteTopics(context.Background(), "orders")
	require.NoError(t, err)
	require.NoError(t, w.service.TopicsDeleted(context.Background(), deletedNow(w.service, "orders", "never a mirror")))
	require.Empty(t, w.snapshot().Mirrors)
	require.Zero(t, w.mirror("orders", "l").ErrorCode, "and again")
}

func TestCreateMirrorRefusals(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("plain", 2, nil)
	w.sourceTopic("taken", 1, nil)
	_, err := w.destAdmin.CreateTopic(context.Background(), 1, 1, nil, "taken")
	require.NoError(t, err)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.link("paused", linkconfig.ConfigLinkPaused+"=true").ErrorCode)
	require.Zero(t, w.mirror("plain", "l").ErrorCode)
	ms := func(s string) *string { return &s }

	for _, c := range []struct {
		spec router.MirrorSpec
		code *kerr.Error
		text string
	}{
		{router.MirrorSpec{Topic: "plain", Link: "l"}, kerr.TopicAlreadyExists, "is already a mirror of link"},
		{router.MirrorSpec{Topic: "x", Link: "none"}, kerr.ResourceNotFound, `"none"`},
		{router.MirrorSpec{Topic: "x", Link: "paused"}, kerr.InvalidRequest, "paused"},
		{router.MirrorSpec{Topic: "x", Link: "l"}, kerr.UnknownTopicOrPartition, "has no topic 'x'"},
		{router.MirrorSpec{Topic: "x", Link: "l", SourceTopic: "plain"}, kerr.InvalidRequest, "renaming is not supported"},
		{router.MirrorSpec{Topic: "__consumer_offsets", Link: "l"}, kerr.InvalidTopicException, "internal"},
		{router.MirrorSpec{Topic: "_klink_state", Link: "l"}, kerr.InvalidTopicException, "internal"},
		{router.MirrorSpec{Topic: "a b", Link: "l"}, kerr.InvalidTopicException, "a b"},
		{router.MirrorSpec{Topic: "taken", Link: "l"}, kerr.TopicAlreadyExists, "kafka-configs"},
		{router.MirrorSpec{Topic: "taken", Link: "l", NumPartitions: 3}, kerr.InvalidPartitions, "has 1 partitions at the source"},
		{router.MirrorSpec{Topic: "taken", Link: "l", Configs: map[string]*string{"retention.ms": ms("1")}}, kerr.InvalidConfig, "retention.ms"},
		{router.MirrorSpec{Topic: "none", Link: "l", Convert: true}, kerr.UnknownTopicOrPartition, "has no topic"},
	} {
		if c.spec.NumPartitions == 0 {
			c.spec.NumPartitions = -1
		}
		c.spec.ReplicationFactor = -1
		for _, c.spec.ValidateOnly = range []bool{true, false} {
			err := w.service.CreateMirror(context.Background(), c.spec)
			require.NotNil(t, err, "%+v", c.spec)
			require.Equal(t, c.code, err.Code, "%+v: %s", c.spec, err)
			require.Contains(t, err.Message, c.text)
		}
	}
	require.Len(t, w.service.State().Mirrors, 1)
}

// TestConvert: an empty topic becomes a mirror whose timeline begins at its physical end. A topic
// with records, or with another number of partitions, does not.
func TestConvert(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, map[string]string{"retention.ms": "777"})
	src := kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	kafkatest.Produce(t, src, "t", 0, kafkatest.Records(3, 10)...)
	kafkatest.DeleteRecordsBefore(t, src, "t", 0, 3)
	dst := kafkatest.NewClient(t, kgo.SeedBrokers(w.destination.ListenAddrs()...))
	kafkatest.CreateTopic(t, dst, "t", 2, 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	spec := router.MirrorSpec{Topic: "t", Link: "l", NumPartitions: -1, ReplicationFactor: -1, Convert: true}
	err := w.service.CreateMirror(context.Background(), spec)
	require.Equal(t, kerr.InvalidPartitions, err.Code)

	_, e := w.destAdmin.DeleteTopics(context.Background(), "t")
	require.NoError(t, e)
	kafkatest.CreateTopic(t, dst, "t", 1, 1, nil)
	dst = kafkatest.NewClient(t, kgo.SeedBrokers(w.destination.ListenAddrs()...))
	kafkatest.Produce(t, dst, "t", 0, kafkatest.Records(5, 10)...)
	err = w.service.CreateMirror(context.Background(), spec)
	require.Equal(t, kerr.InvalidRequest, err.Code)
	require.Contains(t, err.Message, "has records")

	kafkatest.DeleteRecordsBefore(t, dst, "t", 0, 5)
	require.Nil(t, w.service.CreateMirror(context.Background(), spec))
	require.EqualValues(t, -2, w.snapshot().Mirrors["t"].Timeline(0).Shift())
	require.EqualValues(t, 3, w.snapshot().Mirrors["t"].Timeline(0).ToLogical(5))
	require.Equal(t, "777", w.configsOf("t")["retention.ms"])
}

// TestTopicRefusedByTheDestination: if a mirror's topic cannot be created, nothing is left of the
// mirror, and the client gets the destination's error.
func TestTopicRefusedByTheDestination(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	err := w.service.CreateMirror(context.Background(), router.MirrorSpec{Topic: "t", Link: "l", NumPartitions: -1, ReplicationFactor: 3})
	require.Equal(t, kerr.InvalidReplicationFactor, err.Code)
	require.Empty(t, w.service.State().Mirrors)
	require.Empty(t, w.service.State().Timelines)
	require.Zero(t, w.mirror("t", "l").ErrorCode)
}

// TestRecordedBeforeCreated: a mirror's topic is read-only before the destination is asked to
// create it.
func TestRecordedBeforeCreated(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	seen, state := make(chan *router.Mirror, 1), make(chan *model.State, 1)
	w.destination.ControlKey(int16(kmsg.CreateTopics), func(kmsg.Request) (kmsg.Response, error, bool) {
		seen <- w.snapshot().Mirrors["t"]
		state <- w.service.State()
		return nil, nil, false
	})
	require.Zero(t, w.mirror("t", "l").ErrorCode)
	m, early := <-seen, <-state
	require.False(t, early.Mirrors["t"].Created)
	require.Nil(t, early.Timelines["t"], "the replicator does not begin before the topic is there")
	require.NotNil(t, w.service.State().Timelines["t"])
	require.NotNil(t, m)
	require.True(t, m.ReadOnly)
	require.NotNil(t, m.Timeline(0))
}

// TestCrashWhileCreating: klink stopped between recording a mirror and creating its topic; the next
// one creates it.
func TestCrashWhileCreating(t *testing.T) {
	for _, topicThere := range []string{"no", "empty", "written"} {
		t.Run("topic="+topicThere, func(t *testing.T) {
			w := newWorld(t)
			w.sourceTopic("t", 1, map[string]string{"retention.ms": "777"})
			require.Zero(t, w.link("l").ErrorCode)
			plan, refused := w.service.planMirror(context.Background(), router.MirrorSpec{Topic: "t", Link: "l", NumPartitions: -1, ReplicationFactor: -1}, nil)
			require.Nil(t, refused)
			w.service.Close()
			if topicThere != "no" {
				dst := kafkatest.NewClient(t, kgo.SeedBrokers(w.destination.ListenAddrs()...))
				kafkatest.CreateTopic(t, dst, "t", 1, 1, nil)
				if topicThere == "written" {
					kafkatest.Produce(t, dst, "t", 0, kafkatest.Records(1, 10)...)
				}
			}
			s, err := store.Open([]kgo.Opt{kgo.SeedBrokers(w.destination.ListenAddrs()...)}, nil, testLogger(t), func() {})
			require.NoError(t, err)
			t.Cleanup(s.Close)
			require.NoError(t, s.Sync(context.Background()))
			require.NoError(t, s.Update(context.Background(), func(tx *store.Tx) error {
				if err := tx.PutTimeline("t", 0, &plan.starts[0]); err != nil {
					return err
				}
				return tx.PutMirror("t", plan.record)
			}))
			w.service = w.start()
			if topicThere == "written" {
				awaitState(t, w.service, "refused", func(s *model.State) bool { return s.Mirrors["t"].State == model.MirrorFailed })
				require.True(t, w.snapshot().Mirrors["t"].ReadOnly)
				return
			}
			awaitState(t, w.service, "created", func(s *model.State) bool { return s.Mirrors["t"].Created })
			require.True(t, w.destinationHas("t"))
			require.Equal(t, "777", w.configsOf("t")["retention.ms"])
		})
	}
}

// TestDeletedAroundKlink: the topic of a mirror is deleted, or deleted and created again, without
// klink.
func TestDeletedAroundKlink(t *testing.T) {
	for _, recreate := range []bool{false, true} {
		for _, stopped := range []bool{false, true} {
			t.Run(fmt.Sprintf("recreated=%v stopped=%v", recreate, stopped), func(t *testing.T) {
				w := newWorld(t)
				w.replicator()
				w.sourceTopic("t", 1, nil)
				require.Zero(t, w.link("l").ErrorCode)
				require.Zero(t, w.mirror("t", "l").ErrorCode)
				if stopped {
					require.Zero(t, w.alter("t", linkapi.MirrorFailover).ErrorCode)
				}
				_, err := w.destAdmin.DeleteTopics(context.Background(), "t")
				require.NoError(t, err)
				if recreate {
					_, err := w.destAdmin.CreateTopic(context.Background(), 1, 1, nil, "t")
					require.NoError(t, err)
				}
				if stopped {
					awaitState(t, w.service, "forgotten", func(s *model.State) bool { return s.Mirrors["t"] == nil })
					require.Empty(t, w.service.State().Timelines)
					return
				}
				awaitState(t, w.service, "failed", func(s *model.State) bool { return s.Mirrors["t"].State == model.MirrorFailed })
				require.Equal(t, model.ErrMirrorTopicDeleted, w.service.State().Mirrors["t"].Error)
				require.True(t, w.snapshot().Mirrors["t"].ReadOnly)
				require.Nil(t, w.snapshot().Mirrors["t"].Timeline(0), "another topic's offsets are its own")
				if !recreate {
					require.Zero(t, w.mirror("t", "l").ErrorCode, "the mirror can be created anew")
					require.NotNil(t, w.snapshot().Mirrors["t"].Timeline(0))
					return
				}
				r := w.alter("t", linkapi.MirrorFailover)
				require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
				awaitState(t, w.service, "an ordinary topic", func(s *model.State) bool { return s.Mirrors["t"] == nil })
			})
		}
	}
}

// TestGrowMirror: the timelines of new partitions are published before the partitions exist.
func TestGrowMirror(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("t", "l").ErrorCode)
	seen := make(chan *router.Mirror, 1)
	w.destination.ControlKey(int16(kmsg.CreatePartitions), func(kmsg.Request) (kmsg.Response, error, bool) {
		seen <- w.snapshot().Mirrors["t"]
		return nil, nil, false
	})
	starts := []model.Start{{Partition: 2, Logical: 50, Floor: 50}, {Partition: 1, Logical: 40, Floor: 41}}
	for range 2 { // the second time there is nothing left to do
		require.NoError(t, w.service.GrowMirror(context.Background(), "t", starts))
	}
	early := <-seen
	require.EqualValues(t, 40, early.Timeline(1).Shift())
	require.EqualValues(t, 41, early.Timeline(1).Floor())
	require.EqualValues(t, 50, early.Timeline(2).Shift())
	require.EqualValues(t, 3, w.service.State().Mirrors["t"].Partitions)
	details, err := w.destAdmin.ListTopics(context.Background(), "t")
	require.NoError(t, err)
	require.Len(t, details["t"].Partitions, 3)
	require.Error(t, w.service.GrowMirror(context.Background(), "t", []model.Start{{Partition: 5}}), "a gap")
	require.ErrorIs(t, w.service.GrowMirror(context.Background(), "none", []model.Start{{Partition: 1}}), kerr.UnknownTopicOrPartition)
}

func TestSetTimeline(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("t", "l").ErrorCode)
	live := w.snapshot().Mirrors["t"].Timeline(0)
	ctx := context.Background()
	require.NoError(t, w.service.SetTimeline(ctx, "t", 0, 0, 90, 95))
	require.EqualValues(t, 90, live.Shift())
	require.EqualValues(t, 95, live.Floor())
	live.Set(90, 99)
	require.NoError(t, w.service.SetTimeline(ctx, "t", 0, 0, 90, 95))
	require.EqualValues(t, 95, live.Floor(), "what was asked for, even if the record said so already")
	require.EqualValues(t, 95, w.start().State().Timelines["t"][0].Floor())
	require.Error(t, w.service.SetTimeline(ctx, "t", 0, -1, 0, 0))
	require.ErrorIs(t, w.service.SetTimeline(ctx, "t", 1, 0, 0, 0), kerr.UnknownTopicOrPartition)
	require.ErrorIs(t, w.service.SetTimeline(ctx, "u", 0, 0, 0, 0), kerr.UnknownTopicOrPartition)
}

// TestFailoverInTime: a failover that is not done in time returns an error that says so, and goes
// on.
func TestFailoverInTime(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("t", "l").ErrorCode)
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: 200, Mirrors: []linkapi.AlterMirror{{Topic: "t", Op: linkapi.MirrorFailover}}}
	r := w.service.HandleLink(context.Background(), req).(*linkapi.AlterMirrorsResponse).Results[0]
	require.Equal(t, kerr.RequestTimedOut.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "PENDING_STOPPED")
	require.True(t, w.snapshot().Mirrors["t"].ReadOnly)
	w.report(model.Event{Kind: model.EventMirrorDrained, Topic: "t"})
	require.Eventually(t, func() bool { return !w.snapshot().Mirrors["t"].ReadOnly }, 20*time.Second, time.Millisecond)
}

func TestSetMirrorState(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	w.sourceTopic("t", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("t", "l").ErrorCode)
	ctx := context.Background()
	require.Nil(t, w.service.SetMirrorState(ctx, "t", "PAUSED", true))
	require.NotEqual(t, model.MirrorPaused, w.service.State().Mirrors["t"].State, "only validated")
	require.Nil(t, w.service.SetMirrorState(ctx, "t", "PAUSED", false))
	require.Equal(t, model.MirrorPaused, w.service.State().Mirrors["t"].State)
	require.Equal(t, kerr.InvalidConfig, w.service.SetMirrorState(ctx, "t", "SLEEPING", false).Code)
	require.Equal(t, kerr.InvalidRequest, w.service.SetMirrorState(ctx, "t", "PROMOTED", false).Code)
	require.Equal(t, kerr.InvalidRequest, w.service.SetMirrorState(ctx, "t", "PROMOTED", true).Code)
	require.Equal(t, kerr.UnknownTopicOrPartition, w.service.SetMirrorState(ctx, "u", "PAUSED", false).Code)
	require.Nil(t, w.service.SetMirrorState(ctx, "t", "STOPPED", false))
	require.Equal(t, model.MirrorStopped, w.service.State().Mirrors["t"].State)
	require.Equal(t, kerr.InvalidRequest, w.service.SetMirrorState(ctx, "t", "ACTIVE", true).Code)

	w.sourceTopic("p", 1, nil)
	require.Zero(t, w.mirror("p", "l").ErrorCode)
	require.Nil(t, w.service.SetMirrorState(ctx, "p", "PROMOTED", true))
	require.Empty(t, w.service.State().Mirrors["p"].Promotion, "only validated")
	require.Nil(t, w.service.SetMirrorState(ctx, "p", "promoted", false))
	require.Equal(t, model.MirrorStopped, w.service.State().Mirrors["p"].State)
}

// TestManyFailovers: changes made at the same time share transactions.
func TestManyFailovers(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l").ErrorCode)
	const n = 100
	create, stop := &linkapi.CreateMirrorsRequest{}, &linkapi.AlterMirrorsRequest{}
	for i := range n {
		topic := fmt.Sprintf("t%d", i)
		w.sourceTopic(topic, 1, nil)
		create.Mirrors = append(create.Mirrors, linkapi.CreateMirror{Topic: topic, Link: "l", NumPartitions: -1, ReplicationFactor: -1})
		stop.Mirrors = append(stop.Mirrors, linkapi.AlterMirror{Topic: topic, Op: linkapi.MirrorFailover})
	}
	var errs []error
	for _, r := range w.service.HandleLink(context.Background(), create).(*linkapi.CreateMirrorsResponse).Results {
		if r.ErrorCode != 0 {
			errs = append(errs, errors.New(text(r.ErrorMessage)))
		}
	}
	for _, r := range w.service.HandleLink(context.Background(), stop).(*linkapi.AlterMirrorsResponse).Results {
		if r.ErrorCode != 0 {
			errs = append(errs, errors.New(text(r.ErrorMessage)))
		}
	}
	require.NoError(t, errors.Join(errs...))
	for _, m := range w.service.State().Mirrors {
		require.Equal(t, model.MirrorStopped, m.State)
	}
}
