package admin

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/store"
	"klink/internal/batchtest"
	"klink/internal/parallel"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Commit commits offsets for a group at the destination, as a tool does.
func (w *world) commit(group, topic string, metadata string, offsets ...int64) {
	var os kadm.Offsets
	for p, o := range offsets {
		os.Add(kadm.Offset{Topic: topic, Partition: int32(p), At: o, LeaderEpoch: 3, Metadata: metadata})
	}
	resp, err := w.destAdmin.CommitOffsets(context.Background(), group, os)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Error())
}

func (w *world) committed(group, topic string, partition int32) kadm.Offset {
	resp, err := w.destAdmin.FetchOffsets(context.Background(), group)
	require.NoError(w.t, err)
	o, ok := resp.Lookup(topic, partition)
	require.True(w.t, ok, "%s has no offset for %s-%d", group, topic, partition)
	return o.Offset
}

// failover fails a mirror over and reports it drained.
func (w *world) failover(topic string, ev model.Event) linkapi.AlteredMirror {
	done := make(chan linkapi.AlteredMirror, 1)
	go func() { done <- w.alter(topic, linkapi.MirrorFailover) }()
	awaitState(w.t, w.service, "the stop to begin", func(s *model.State) bool { return s.Mirrors[topic].State == model.MirrorPendingStopped })
	ev.Kind, ev.Topic = model.EventMirrorDrained, topic
	w.report(ev)
	return <-done
}

// Active makes a group at the destination that has a member and a committed offset.
func (w *world) active(group, topic string, offset int64) {
	w.commit(group, topic, "", offset)
	joined := make(chan struct{})
	cl := kafkatest.NewClient(w.t, kgo.SeedBrokers(w.seeds...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { close(joined) }))
	ctx, cancel := context.WithCancel(context.Background())
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		cl.PollFetches(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-polled
	})
	select {
	case <-joined:
	case <-time.After(20 * time.Second):
		w.t.Fatal("the group has no member")
	}
}

func (w *world) plainMirror(topic string, partitions int32) {
	w.sourceTopic(topic, partitions, nil)
	r := w.mirror(topic, "l")
	require.Zero(w.t, r.ErrorCode, text(r.ErrorMessage))
	w.report(model.Event{Kind: model.EventMirrorStarted, Topic: topic})
}

// TestStopSetsOffsetsBack: when a mirror is STOPPED, no group has a committed offset beyond its
// end; nothing else is changed.
func TestStopSetsOffsetsBack(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 2)
	_, err := w.destAdmin.CreateTopic(context.Background(), 2, 1, nil, "other")
	require.NoError(t, err)
	w.commit("beyond", "orders", "mine", 120, 40)
	w.commit("beyond", "other", "mine", 999)
	w.commit("both", "orders", "", 101, 51)
	w.commit("at", "orders", "as it was", 100, 50)
	w.commit("below", "orders", "", 7)
	w.active("active", "orders", 130)

	r := w.failover("orders", model.Event{Ended: endedAt([2]int64{100, 90}, [2]int64{50, 50})})
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	for _, c := range []struct {
		group     string
		partition int32
		offset    int64
		metadata  string
		epoch     int32
	}{
		{"beyond", 0, 100, "mine", -1},
		{"beyond", 1, 40, "mine", 3},
		{"both", 0, 100, "", -1},
		{"both", 1, 50, "", -1},
		{"at", 0, 100, "as it was", 3},
		{"below", 0, 7, "", 3},
		{"active", 0, 130, "", 3},
	} {
		o := w.committed(c.group, "orders", c.partition)
		require.Equal(t, c.offset, o.At, "%s-%d", c.group, c.partition)
		require.Equal(t, c.metadata, o.Metadata, "%s-%d", c.group, c.partition)
		require.Equal(t, c.epoch, o.LeaderEpoch, "%s-%d", c.group, c.partition)
	}
	require.EqualValues(t, 999, w.committed("beyond", "other", 0).At, "no mirror")
	d := w.describe(w.service, "orders")
	require.Equal(t, string(model.MirrorStopped), d.State)
	require.Empty(t, d.Error)
	require.Contains(t, d.StateMessage, "group active has offset 130 in partition 0, which ends at 100 (the group is active)")
	for name, s := range map[string]*Service{"same": w.service, "restarted": w.start()} {
		logical, _, ok := s.State().Timelines["orders"][0].FindLogical(95)
		require.True(t, ok, name)
		require.EqualValues(t, 105, logical, name)
	}
}

// TestStopFindsTheEnds: klink reads ends that the replicator does not know from the destination.
func TestStopFindsTheEnds(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	src := kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.sourceTopic("orders", 1, nil)
	kafkatest.Produce(t, src, "orders", 0, kafkatest.Records(10, 20)...)
	kafkatest.DeleteRecordsBefore(t, src, "orders", 0, 6)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	dst := kafkatest.NewClient(t, kgo.SeedBrokers(w.seeds...))
	batchtest.Append(t, dst, "orders", 0, 6, 3)
	batchtest.Append(t, dst, "orders", 0, 20, 2)
	w.commit("beyond", "orders", "", 23)
	w.commit("below", "orders", "", 21)
	require.EqualValues(t, 22, w.describe(w.service, "orders").Partitions[0].MirrorEndOffset)
	r := w.failover("orders", model.Event{})
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	require.EqualValues(t, 22, w.committed("beyond", "orders", 0).At)
	require.EqualValues(t, 21, w.committed("below", "orders", 0).At)
	require.Empty(t, w.describe(w.service, "orders").StateMessage)
	require.Equal(t, &store.TimelineEnd{Physical: 5, Logical: 22, Straight: false}, w.service.store.TimelineRecords("orders", 1)[0].End)
}

// TestStopWithoutEnds: if the end of a partition cannot be found, klink sets no offsets back and
// stores no end.
func TestStopWithoutEnds(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 1)
	w.commit("g", "orders", "", 10)
	w.destination.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, t := range req.(*kmsg.ListOffsetsRequest).Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.InvalidRequest.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	r := w.failover("orders", model.Event{})
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	require.EqualValues(t, 10, w.committed("g", "orders", 0).At)
	require.Nil(t, w.service.store.TimelineRecords("orders", 1)[0].End)
	d := w.describe(w.service, "orders")
	require.EqualValues(t, -1, d.Partitions[0].MirrorEndOffset)
	require.Contains(t, d.StateMessage, "the ends of 1 of 1 partitions are unknown")
}

// TestStopDespiteTheGroups: a stop waits for a coordinator that is loading. Groups that klink may
// not see do not hold it up, but the mirror's message names the problem.
func TestStopDespiteTheGroups(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	for topic, c := range map[string]struct {
		key   kmsg.Key
		err   *kerr.Error
		count int
		at    int64
		text  string
	}{
		"loading":      {kmsg.ListGroups, kerr.CoordinatorLoadInProgress, 2, 5, ""},
		"not-listed":   {kmsg.ListGroups, kerr.ClusterAuthorizationFailed, -1, 10, "CLUSTER_AUTHORIZATION_FAILED"},
		"not-told":     {kmsg.OffsetFetch, kerr.GroupAuthorizationFailed, -1, 10, "could not read the offsets of 1 groups, for example g"},
		"not-taken":    {kmsg.OffsetCommit, kerr.GroupAuthorizationFailed, -1, 10, "group g has offset 10 in partition 0, which ends at 5 (GROUP_AUTHORIZATION_FAILED"},
		"taken-slowly": {kmsg.OffsetCommit, kerr.CoordinatorLoadInProgress, 2, 5, ""},
	} {
		t.Run(topic, func(t *testing.T) {
			w.plainMirror(topic, 1)
			w.commit("g", topic, "", 10)
			fault := w.destination.Fault(kfake.Fault{Keys: []kmsg.Key{c.key}, Err: c.err, Count: c.count})
			r := w.failover(topic, model.Event{Ended: endedAt([2]int64{5, 5})})
			fault.Remove()
			require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
			require.Equal(t, c.at, w.committed("g", topic, 0).At)
			if d := w.describe(w.service, topic); c.text == "" {
				require.Empty(t, d.StateMessage)
			} else {
				require.Contains(t, d.StateMessage, c.text)
			}
		})
	}
}

// TestDrainedIsReportedAgain: a repeated report, during the stop or after it, does not touch
// offsets that clients have committed since.
func TestDrainedIsReportedAgain(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 1)
	w.commit("g", "orders", "", 10)
	ev := model.Event{Kind: model.EventMirrorDrained, Topic: "orders", Ended: endedAt([2]int64{5, 5})}
	slow := w.destination.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListGroups}, Err: kerr.CoordinatorLoadInProgress, Count: 2})
	stopped := make(chan linkapi.AlteredMirror, 1)
	go func() { stopped <- w.failover("orders", ev) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, slow.Wait(ctx, 1))
	w.report(ev) // the stop is under way
	require.Zero(t, (<-stopped).ErrorCode)
	require.EqualValues(t, 5, w.committed("g", "orders", 0).At)
	w.commit("g", "orders", "", 7) // a record that was written since
	w.report(ev)
	require.Eventually(t, func() bool {
		w.service.stopsMu.Lock()
		defer w.service.stopsMu.Unlock()
		return !w.service.stopping
	}, 20*time.Second, time.Millisecond)
	require.EqualValues(t, 7, w.committed("g", "orders", 0).At)
}

// TestStopOfManyGroups: a stop of many mirrors with thousands of groups takes a few requests.
func TestStopOfManyGroups(t *testing.T) {
	const groups, topics = 3_000, 40
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	for i := range topics {
		w.plainMirror(fmt.Sprintf("t%d", i), 1)
	}
	parallel.ForEach(groups, func(i int) { w.commit(fmt.Sprintf("g%d", i), fmt.Sprintf("t%d", i%topics), "", int64(i%7)) })
	began := time.Now()
	parallel.ForEach(topics, func(i int) {
		r := w.failover(fmt.Sprintf("t%d", i), model.Event{Ended: endedAt([2]int64{5, 5})})
		if r.ErrorCode != 0 {
			t.Error(text(r.ErrorMessage))
		}
	})
	t.Logf("%d groups, %d mirrors: %s", groups, topics, time.Since(began))
	for i := range groups {
		if i%7 == 6 {
			require.EqualValues(t, 5, w.committed(fmt.Sprintf("g%d", i), fmt.Sprintf("t%d", i%topics), 0).At)
		}
	}
}

// TestFailoverOfAFailedMirror: a FAILED mirror can be read and failed over, whatever its error is.
func TestFailoverOfAFailedMirror(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	for i, code := range []model.Error{
		model.ErrUnexpectedTruncation, model.ErrSourceTopicIDChanged, model.ErrSourcePartitionsDecrease, model.ErrRecordTooLarge, model.ErrUnsupportedFormat, model.ErrForeignWrite,
	} {
		t.Run(string(code), func(t *testing.T) {
			topic := fmt.Sprintf("t%d", i)
			w.plainMirror(topic, 1)
			w.report(model.Event{Kind: model.EventMirrorFailed, Topic: topic, Error: code, Message: "partition 0 at offset 7"})
			m := w.service.State().Mirrors[topic]
			require.Equal(t, model.MirrorFailed, m.State)
			require.Equal(t, code, m.Error)
			snap := w.snapshot().Mirrors[topic]
			require.True(t, snap.ReadOnly)
			require.NotNil(t, snap.Timeline(0), "its offsets are translated")
			require.NotZero(t, w.alter(topic, linkapi.MirrorResume).ErrorCode)
			r := w.failover(topic, model.Event{Ended: endedAt([2]int64{7, 7})})
			require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
			require.Equal(t, model.MirrorStopped, w.service.State().Mirrors[topic].State)
			require.False(t, w.snapshot().Mirrors[topic].ReadOnly)
		})
	}
}

// partOwner owns some partitions of all mirrors, and is their coordinator or not.
type partOwner struct {
	coordinator atomic.Bool
	partitions  []int32
}

func (o *partOwner) OwnsTopic(string) bool { return o.coordinator.Load() }
func (o *partOwner) OwnsLink(string) bool  { return o.coordinator.Load() }
func (o *partOwner) OwnsPartition(_ string, p int32) bool {
	return slices.Contains(o.partitions, p)
}

// TestPartsOfAStop: two instances copy the partitions of a mirror. The coordinator stops the mirror
// once both have ended theirs, in any order, and the mirror ends where each of them has said. An
// instance cannot store the end of a partition that it does not own, or of another mirror, or
// before the mirror is being stopped.
func TestPartsOfAStop(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.sourceTopic("orders", 3, nil)
	require.Zero(t, w.link("east").ErrorCode)
	require.Zero(t, w.mirror("orders", "east").ErrorCode)
	coordinator, other := w.service, w.start()
	awaitState(t, other, "the mirror", func(s *model.State) bool { return s.Mirrors["orders"] != nil && s.Mirrors["orders"].Created })
	mine, theirs := &partOwner{partitions: []int32{0, 2}}, &partOwner{partitions: []int32{1}}
	mine.coordinator.Store(true)
	coordinator.SetOwner(mine)
	other.SetOwner(theirs)
	ours := []model.PartitionEnd{{Partition: 0, Logical: 100, Physical: 90}, {Partition: 2, Logical: 7, Physical: 7}}
	id := coordinator.State().Mirrors["orders"].ID
	drained := func() error {
		return coordinator.Report(ctx, model.Event{Kind: model.EventMirrorDrained, Topic: "orders", Mirror: id, Ended: ours})
	}
	part := model.Event{Kind: model.EventPartitionsEnded, Topic: "orders", Mirror: id, Partition: 1, Ended: []model.PartitionEnd{{Partition: 1, Logical: 50, Physical: 40}}}

	require.NoError(t, other.Report(ctx, part)) // the mirror is not being stopped
	require.False(t, other.State().Mirrors["orders"].HasEnded(1))
	stop := w.alterAsync("orders", linkapi.MirrorFailover)
	for _, s := range []*Service{coordinator, other} {
		awaitState(t, s, "the stop to begin", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorPendingStopped })
	}
	require.ErrorContains(t, drained(), "partition 1 has not ended")
	require.ErrorIs(t, other.Report(ctx, model.Event{Kind: model.EventMirrorDrained, Topic: "orders", Ended: ours}), model.ErrNotOwner)
	for what, ev := range map[string]model.Event{
		"of another owner":  {Kind: model.EventPartitionsEnded, Topic: "orders", Mirror: id, Ended: []model.PartitionEnd{{Partition: 2, Logical: 1, Physical: 1}}},
		"of another mirror": {Kind: model.EventPartitionsEnded, Topic: "orders", Mirror: "another", Ended: []model.PartitionEnd{{Partition: 1, Logical: 1, Physical: 1}}},
		"of no partition":   {Kind: model.EventPartitionsEnded, Topic: "orders", Mirror: id, Ended: []model.PartitionEnd{{Partition: 3, Logical: 1, Physical: 1}, {Partition: -1, Logical: 1, Physical: 1}}},
	} {
		if err := other.Report(ctx, ev); what == "of another owner" {
			require.ErrorIs(t, err, model.ErrNotOwner)
		} else {
			require.NoError(t, err, what)
		}
		require.Nil(t, other.State().Mirrors["orders"].Ended, what)
	}
	require.NoError(t, other.Report(ctx, part))
	part.Ended[0].Logical = 51
	require.NoError(t, other.Report(ctx, part)) // the first report counts
	awaitState(t, coordinator, "the part to have ended", func(s *model.State) bool { return s.Mirrors["orders"].HasEnded(1) })
	require.Equal(t, model.MirrorPendingStopped, coordinator.State().Mirrors["orders"].State)
	mine.coordinator.Store(false)
	require.ErrorIs(t, drained(), model.ErrNotOwner)
	mine.coordinator.Store(true)
	require.NoError(t, drained())
	require.Zero(t, (<-stop).ErrorCode)
	awaitState(t, other, "the stop", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorStopped })
	for p, r := range other.store.TimelineRecords("orders", 3) {
		want := [][2]int64{{100, 90}, {50, 40}, {7, 7}}[p]
		require.NotNil(t, r.End)
		require.Equal(t, want, [2]int64{r.End.Logical, r.End.Physical}, "partition %d", p)
		require.Nil(t, r.Ended)
	}
}

// TestAPartsOwnerFailsTheMirror: only the owner of a partition and the coordinator may report that
// the mirror has failed.
func TestAPartsOwnerFailsTheMirror(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.sourceTopic("orders", 2, nil)
	require.Zero(t, w.link("east").ErrorCode)
	require.Zero(t, w.mirror("orders", "east").ErrorCode)
	w.service.SetOwner(&partOwner{partitions: []int32{1}})
	failed := model.Event{Kind: model.EventMirrorFailed, Topic: "orders", Error: model.ErrForeignWrite, Partition: -1}
	require.ErrorIs(t, w.service.Report(ctx, failed), model.ErrNotOwner)
	failed.Partition = 0
	require.ErrorIs(t, w.service.Report(ctx, failed), model.ErrNotOwner)
	require.ErrorIs(t, w.service.Report(ctx, model.Event{Kind: model.EventMirrorStarted, Topic: "orders", Partition: 1}), model.ErrNotOwner)
	require.ErrorIs(t, w.service.SetTimeline(ctx, "orders", 0, 0, 5, 5), model.ErrNotOwner)
	require.NoError(t, w.service.SetTimeline(ctx, "orders", 1, 0, 5, 5))
	failed.Partition = 1
	require.NoError(t, w.service.Report(ctx, failed))
	require.Equal(t, model.MirrorFailed, w.service.State().Mirrors["orders"].State)
}
