package admin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"klink/protocol/linkapi"
	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"
)

// TestHiddenRanges compares merging with a set of offsets.
func TestHiddenRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &timelineRecord{}
		set := map[int64]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "ranges") {
			from := rapid.Int64Range(0, 100).Draw(t, "from")
			to := from + rapid.Int64Range(1, 20).Draw(t, "length")
			require.NoError(t, r.hide(from, to))
			for o := from; o < to; o++ {
				set[o] = true
			}
			require.NoError(t, checkHidden(r.Hidden))
		}
		require.EqualValues(t, len(set), r.hiddenOffsets())
		for _, h := range r.Hidden {
			for o := h[0]; o < h[1]; o++ {
				require.True(t, set[o])
			}
		}
	})
}

func (w *world) orders() {
	w.replicator()
	w.sourceTopic("orders", 2, nil)
	require.Zero(w.t, w.link("l").ErrorCode)
	require.Zero(w.t, w.mirror("orders", "l").ErrorCode)
	awaitState(w.t, w.service, "started", func(s *State) bool { return s.Mirrors["orders"].State == MirrorActive })
}

func (w *world) describe(s *Service, topic string) linkapi.DescribedMirror {
	d := s.HandleLink(context.Background(), &linkapi.DescribeMirrorsRequest{Topics: []string{topic}}).(*linkapi.DescribeMirrorsResponse)
	require.Zero(w.t, d.ErrorCode)
	require.Len(w.t, d.Mirrors, 1)
	return d.Mirrors[0]
}

// TestTimelinesAreKept: what the owner of a partition has stored is there in a service that is started on nothing.
func TestTimelinesAreKept(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	require.NoError(t, s.SetTimeline(ctx, "orders", 1, 0, 100, 100))
	require.NoError(t, s.Hide(ctx, "orders", 1, 5, 7))
	require.NoError(t, s.Hide(ctx, "orders", 1, 9, 10))
	require.NoError(t, s.Hide(ctx, "orders", 1, 7, 8))
	require.NoError(t, s.SetAlignment(ctx, "orders", 1, 100, "POLICY_VIOLATION: no"))
	require.NoError(t, s.SetAlignment(ctx, "orders", 0, -1, ""))
	require.NoError(t, s.SetTimeline(ctx, "orders", 1, 0, 100, 101), "the log start moves")
	require.NoError(t, s.Checkpoint(ctx, []Checkpoint{
		{Topic: "orders", Partition: 0, Physical: 3, Logical: 3},
		{Topic: "orders", Partition: 1, Physical: 10, Logical: 120, Epoch: 3, EpochEnd: 118},
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
			require.Equal(t, []linkapi.HiddenRange{{From: 5, To: 8}, {From: 9, To: 10}}, p.Hidden)
			require.EqualValues(t, 4, p.HiddenOffsets)
			require.False(t, d.DirectAccess)
			c, ok := s.LastCheckpoint("orders", 1)
			require.True(t, ok)
			require.Equal(t, Checkpoint{Topic: "orders", Partition: 1, Physical: 10, Logical: 120, Epoch: 3, EpochEnd: 118}, c)
			_, ok = s.LastCheckpoint("orders", 2)
			require.False(t, ok)
			tl := s.State().Timelines["orders"][1]
			require.EqualValues(t, 101, tl.Floor())
			require.Equal(t, []timeline.Range{{From: 5, To: 8}, {From: 9, To: 10}}, tl.Hidden())
			require.NoError(t, tl.Hide(20, 30), "by a reader")
			require.Equal(t, []timeline.Range{{From: 5, To: 8}, {From: 9, To: 10}}, s.Hidden("orders", 1))
			require.Empty(t, s.Hidden("orders", 0))
			require.Empty(t, s.Hidden("none", 0))
		})
	}
}

func TestTimelineRefusals(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	for _, err := range []error{
		s.Hide(ctx, "orders", 2, 0, 1), s.Hide(ctx, "none", 0, 0, 1), s.EndTimeline(ctx, "orders", -1, 0, 0), s.SetAlignment(ctx, "none", 0, 0, ""),
	} {
		require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
	}
	require.Error(t, s.Hide(ctx, "orders", 0, 1, 1))
	require.Error(t, s.Hide(ctx, "orders", 0, -1, 1))
	require.Error(t, s.Checkpoint(ctx, []Checkpoint{{Topic: "orders", Physical: -1}}))
	require.Error(t, s.Checkpoint(ctx, []Checkpoint{{Topic: "orders", Physical: 1, Logical: 1, EpochEnd: 2}}))

	require.NoError(t, s.EndTimeline(ctx, "orders", 0, 7, 9))
	require.NoError(t, s.EndTimeline(ctx, "orders", 0, 7, 9), "again")
	require.ErrorContains(t, s.EndTimeline(ctx, "orders", 0, 8, 9), "has ended at physical offset 7, logical 9")
	for name, s := range map[string]*Service{"same": s, "restarted": w.start()} {
		logical, _, ok := s.State().Timelines["orders"][0].FindLogical(10)
		require.True(t, ok, name)
		require.EqualValues(t, 12, logical, name)
	}
}

// TestTooManyHidden: a mirror that somebody else keeps writing to fails, by name.
func TestTooManyHidden(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	require.NoError(t, w.service.update(ctx, func(tx *Tx) error {
		r, err := tx.Timeline("orders", 0)
		if err != nil {
			return err
		}
		r = r.clone()
		for i := range int64(maxHiddenRanges) {
			if err := r.hide(10*i, 10*i+5); err != nil {
				return err
			}
		}
		return tx.PutTimeline("orders", 0, r)
	}))
	require.NoError(t, w.service.Hide(ctx, "orders", 0, 5, 10), "joins two")
	require.NoError(t, w.service.Hide(ctx, "orders", 0, 1_000_000, 1_000_001), "and so there is room")
	require.Equal(t, MirrorActive, w.service.State().Mirrors["orders"].State)
	err := w.service.Hide(ctx, "orders", 0, 2_000_000, 2_000_001)
	require.ErrorIs(t, err, errTooManyHidden)
	m := w.service.State().Mirrors["orders"]
	require.Equal(t, MirrorFailed, m.State)
	require.Equal(t, ErrForeignWrite, m.Error)
	require.Contains(t, m.ErrorMessage, "partition 0")
	require.NotNil(t, w.snapshot().Mirrors["orders"].Timeline(0), "still readable")
	require.Zero(t, w.alter("orders", linkapi.MirrorFailover).ErrorCode)
	require.Equal(t, MirrorStopped, w.service.State().Mirrors["orders"].State)
}

// TestCheckpointsOfAnotherMirror: a checkpoint that was stored for an earlier mirror of the topic says nothing of this one,
// whoever wrote it last.
func TestCheckpointsOfAnotherMirror(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.orders()
	s := w.service
	first := Checkpoint{Topic: "orders", Physical: 10, Logical: 20}
	require.NoError(t, s.Checkpoint(ctx, []Checkpoint{first}))
	require.NoError(t, s.Checkpoint(ctx, []Checkpoint{{Topic: "orders", Physical: 9, Logical: 19}}), "of a late owner")
	got, ok := s.LastCheckpoint("orders", 0)
	require.True(t, ok)
	require.Equal(t, first, got)
	old := s.store.records.checkpoints["orders"][0]

	require.NoError(t, s.TopicsDeleted(ctx, []string{"orders"}))
	require.Empty(t, s.store.records.checkpoints, "deleted with the mirror")
	_, err := w.destAdmin.DeleteTopics(ctx, "orders")
	require.NoError(t, err)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	require.NoError(t, s.update(ctx, func(tx *Tx) error { return tx.putCheckpoint(timelineAt{"orders", 0}, old) }))
	_, ok = s.LastCheckpoint("orders", 0)
	require.False(t, ok)
	require.NoError(t, s.Checkpoint(ctx, []Checkpoint{{Topic: "orders", Physical: 1, Logical: 2}}), "lower, but of this mirror")
	got, _ = s.LastCheckpoint("orders", 0)
	require.EqualValues(t, 1, got.Physical)
}

// TestCheckpointsAreCheap: ten thousand partitions are stored in one transaction, and publish no picture.
func TestCheckpointsAreCheap(t *testing.T) {
	const partitions = 10_000
	ctx := context.Background()
	w := newWorld(t)
	require.NoError(t, w.service.update(ctx, func(tx *Tx) error {
		return tx.PutMirror("wide", &mirrorRecord{ID: "x", Link: "l", SourceTopic: "wide", State: MirrorFailed, Error: ErrInternal, Partitions: partitions})
	}))
	before := w.snapshot()
	checkpoints := make([]Checkpoint, partitions)
	for round := range int64(3) {
		for p := range checkpoints {
			checkpoints[p] = Checkpoint{Topic: "wide", Partition: int32(p), Physical: round, Logical: 2 * round}
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
		require.Equal(t, Checkpoint{Topic: "wide", Partition: p, Physical: 2, Logical: 4}, c)
	}
	offset := w.service.store.log.offsets[checkpointKey(timelineAt{"wide", 0})]
	require.NoError(t, w.service.Checkpoint(ctx, checkpoints))
	require.Equal(t, offset, w.service.store.log.offsets[checkpointKey(timelineAt{"wide", 0})], "what is stored is not written again")
}
