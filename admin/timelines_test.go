package admin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (w *world) orders() {
	w.replicator()
	w.sourceTopic("orders", 2, nil)
	require.Zero(w.t, w.link("l").ErrorCode)
	require.Zero(w.t, w.mirror("orders", "l").ErrorCode)
	awaitState(w.t, w.service, "started", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorActive })
}

func (w *world) describe(s *Service, topic string) linkapi.DescribedMirror {
	d := s.HandleLink(context.Background(), &linkapi.DescribeMirrorsRequest{Topics: []string{topic}}).(*linkapi.DescribeMirrorsResponse)
	require.Zero(w.t, d.ErrorCode)
	require.Len(w.t, d.Mirrors, 1)
	return d.Mirrors[0]
}

// TestTimelinesAreKept: a service that starts without memory has everything that the owner of a
// partition stored.
func TestTimelinesAreKept(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	require.NoError(t, s.SetTimeline(ctx, "orders", 1, 0, 100, 100))
	require.NoError(t, s.SetAlignment(ctx, "orders", 1, 100, "POLICY_VIOLATION: no"))
	require.NoError(t, s.SetAlignment(ctx, "orders", 0, -1, ""))
	require.NoError(t, s.SetTimeline(ctx, "orders", 1, 0, 100, 101), "the log start moves")
	require.NoError(t, s.Checkpoint(ctx, []model.Checkpoint{
		{Topic: "orders", Partition: 0, Physical: 3, Logical: 3},
		{Topic: "orders", Partition: 1, Physical: 10, Logical: 120, Epoch: 3, EpochEnd: 118, Straight: true},
		{Topic: "orders", Partition: 2, Physical: 1, Logical: 1},
		{Topic: "none", Physical: 1, Logical: 1},
	}))
	for name, s := range map[string]*Service{"same": s, "restarted": w.start()} {
		t.Run(name, func(t *testing.T) {
			d := w.describe(s, "orders")
			require.True(t, d.Partitions[0].Aligned)
			p := d.Partitions[1]
			require.False(t, p.Aligned)
			require.EqualValues(t, 100, p.ShiftBegan)
			require.Equal(t, "POLICY_VIOLATION: no", p.ShiftReason)
			require.False(t, d.DirectAccess)
			c, ok := s.LastCheckpoint("orders", 1)
			require.True(t, ok)
			require.Equal(t, model.Checkpoint{Topic: "orders", Partition: 1, Physical: 10, Logical: 120, Epoch: 3, EpochEnd: 118, Straight: true}, c)
			_, ok = s.LastCheckpoint("orders", 2)
			require.False(t, ok)
			tl := s.State().Timelines["orders"][1]
			require.EqualValues(t, 101, tl.Floor())
		})
	}
}

func TestTimelineRefusals(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	for _, err := range []error{
		s.SetAlignment(ctx, "orders", 2, 0, ""), s.SetAlignment(ctx, "orders", -1, 0, ""), s.SetAlignment(ctx, "none", 0, 0, ""),
	} {
		require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
	}
	require.Error(t, s.Checkpoint(ctx, []model.Checkpoint{{Topic: "orders", Physical: -1}}))
	require.Error(t, s.Checkpoint(ctx, []model.Checkpoint{{Topic: "orders", Physical: 1, Logical: 1, EpochEnd: 2}}))
}

// TestCheckpointsOfAnotherMirror: a checkpoint of an earlier mirror of the topic does not apply to
// this one, whoever wrote it last.
func TestCheckpointsOfAnotherMirror(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	first := model.Checkpoint{Topic: "orders", Physical: 10, Logical: 20}
	require.NoError(t, s.Checkpoint(ctx, []model.Checkpoint{first}))
	require.NoError(t, s.Checkpoint(ctx, []model.Checkpoint{{Topic: "orders", Physical: 9, Logical: 19}}), "of a late owner")
	got, ok := s.LastCheckpoint("orders", 0)
	require.True(t, ok)
	require.Equal(t, first, got)
	old := &store.CheckpointRecord{Version: store.RecordVersion, Mirror: s.State().Mirrors["orders"].ID, Physical: 10, Logical: 20}

	require.NoError(t, s.TopicsDeleted(ctx, deletedNow(s, "orders")))
	_, err := w.destAdmin.DeleteTopics(ctx, "orders")
	require.NoError(t, err)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	require.NoError(t, s.update(ctx, func(tx *store.Tx) error {
		return tx.PutCheckpoint(store.TimelineAt{Topic: "orders", Partition: 0}, old)
	}))
	_, ok = s.LastCheckpoint("orders", 0)
	require.False(t, ok)
	require.NoError(t, s.Checkpoint(ctx, []model.Checkpoint{{Topic: "orders", Physical: 1, Logical: 2}}), "lower, but of this mirror")
	got, _ = s.LastCheckpoint("orders", 0)
	require.EqualValues(t, 1, got.Physical)
}

// TestCheckpointsAreCheap: the checkpoints of ten thousand partitions take one transaction, and
// publish no new snapshot.
func TestCheckpointsAreCheap(t *testing.T) {
	const partitions = 10_000
	ctx := context.Background()
	w := newWorld(t)
	require.NoError(t, w.service.update(ctx, func(tx *store.Tx) error {
		return tx.PutMirror("wide", &store.MirrorRecord{Stamp: store.StampFormat, ID: "x", Link: "l", SourceTopic: "wide", State: model.MirrorFailed, Error: model.ErrInternal, Partitions: partitions})
	}))
	before := w.snapshot()
	checkpoints := make([]model.Checkpoint, partitions)
	for round := range int64(3) {
		for p := range checkpoints {
			checkpoints[p] = model.Checkpoint{Topic: "wide", Partition: int32(p), Physical: round, Logical: 2 * round}
		}
		began := time.Now()
		require.NoError(t, w.service.Checkpoint(ctx, checkpoints))
		t.Logf("round %d: %s", round, time.Since(began))
	}
	require.Same(t, before, w.snapshot())
	again := w.start()
	for _, p := range []int32{0, 77, partitions - 1} {
		c, ok := again.LastCheckpoint("wide", p)
		require.True(t, ok, fmt.Sprint(p))
		require.Equal(t, model.Checkpoint{Topic: "wide", Partition: p, Physical: 2, Logical: 4}, c)
	}
	ends, err := w.destAdmin.ListEndOffsets(ctx, store.StateTopic)
	require.NoError(t, err)
	require.NoError(t, w.service.Checkpoint(ctx, checkpoints))
	after, err := w.destAdmin.ListEndOffsets(ctx, store.StateTopic)
	require.NoError(t, err)
	end, _ := ends.Lookup(store.StateTopic, 0)
	endAfter, _ := after.Lookup(store.StateTopic, 0)
	require.Less(t, endAfter.Offset-end.Offset, int64(partitions), "what is stored is not written again")
}
