package facts

import (
	"context"
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lookWorld is Facts and a topic, two partitions on two brokers, whose logs are written batch by
// batch.
type lookWorld struct {
	*factsWorld
	t      *testing.T
	client *kgo.Client
}

func newLookWorld(t *testing.T) *lookWorld {
	w := &lookWorld{factsWorld: newFactsWorld(t, 2), t: t}
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	_, err = kadm.NewClient(w.client).CreateTopic(context.Background(), 2, 1, nil, "orders")
	require.NoError(t, err)
	return w
}

// append appends n records in one batch; logical < 0 = without a stamp.
func (w *lookWorld) append(partition int32, logical int64, n int) {
	w.t.Helper()
	batchtest.Append(w.t, w.client, "orders", partition, logical, n)
}

func (w *lookWorld) look(line *timeline.Partition, partition int32, physical int64) {
	w.t.Helper()
	require.NoError(w.t, w.facts.LearnOffset(context.Background(), "orders", partition, line, physical))
}

// A look into a log teaches the timeline what the stamps there say.
func TestLearnOffset(t *testing.T) {
	w := newLookWorld(t)
	for i := range int64(20) {
		w.append(1, 100+5*i, 3)
	}
	line := timeline.Open(0, 100, 100)
	finds := func(logical, want int64) {
		t.Helper()
		got, _, ok := line.FindPhysical(logical, 0)
		require.True(t, ok, "logical %d", logical)
		require.Equal(t, want, got, "logical %d", logical)
	}
	w.look(line, 1, timeline.ProbeEnd)
	finds(195, 57)
	finds(198, 60)
	l, _, ok := line.FindLogical(60)
	require.True(t, ok)
	require.EqualValues(t, 198, l)

	w.look(line, 1, 31) // inside a batch
	finds(150, 30)
	finds(153, 33)

	w.look(line, 1, 60) // at the end there is nothing
	w.look(line, 1, 1000)
	finds(198, 60)

	for tries := 0; ; tries++ {
		p, probe, ok := line.FindPhysical(121, tries)
		if ok {
			require.EqualValues(t, 13, p)
			break
		}
		require.Less(t, tries, 10)
		w.look(line, 1, probe)
	}
	err := w.facts.LearnOffset(context.Background(), "orders", 7, line, 0)
	require.ErrorContains(t, err, "orders-7 has no leader")
	require.Error(t, w.facts.LearnOffset(context.Background(), "nothing", 0, line, 0))
}

// late appends a batch that was to stand at the physical offset place, but lands elsewhere.
func (w *lookWorld) late(partition int32, logical int64, n int, place int64) {
	w.t.Helper()
	b := batch.Filler(nil, n, logical)
	require.NoError(w.t, batch.Stamp(b, logical, 0))
	batch.SetPlace(b, place)
	batchtest.AppendAsIs(w.t, w.client, "orders", partition, b)
}

// find looks for a logical offset as the router does.
func (w *lookWorld) find(line *timeline.Partition, partition int32, logical int64) (physical int64, looks int) {
	w.t.Helper()
	for {
		physical, probe, ok := line.FindPhysical(logical, looks)
		if ok {
			return physical, looks
		}
		looks++
		require.Less(w.t, looks, 20, "logical %d", logical)
		w.look(line, partition, probe)
	}
}

// A look passes over batches that do not count. Once it has read the last of them, it knows the end
// of the log.
func TestLearnOffsetBesideVoidBatches(t *testing.T) {
	w := newLookWorld(t)
	w.append(0, 100, 5)
	w.append(0, -1, 2)    // physical 5: somebody else's
	w.late(0, 100, 3, 0)  // 7: doubled
	w.append(0, 200, 5)   // 10
	w.late(0, 205, 4, 10) // 15: behind a refused one
	for _, first := range []int64{timeline.ProbeEnd, 0, 6, 16, 19, 1000} {
		line := timeline.Open(0, 100, 100)
		w.look(line, 0, first)
		for logical, want := range map[int64][2]int64{100: {0}, 104: {4, 4}, 105: {5, 10}, 150: {5, 10}, 200: {10, 10}, 204: {14, 14}} {
			got, _ := w.find(line, 0, logical)
			require.True(t, want[0] <= got && got <= want[1], "logical %d is at %d after a look at %d", logical, got, first)
		}
		w.look(line, 0, timeline.ProbeEnd)
		got, _, ok := line.FindLogical(19)
		require.True(t, ok)
		require.EqualValues(t, 205, got, "the end, after a look at %d", first)
		for physical, want := range map[int64]int64{4: 104, 5: 200, 8: 200, 10: 200, 14: 204} {
			if _, probe, ok := line.FindRecord(physical); !ok {
				w.look(line, 0, probe)
			}
			got, _, ok := line.FindRecord(physical)
			require.True(t, ok, physical)
			require.Equal(t, want, got, "physical %d", physical)
		}
	}
}

// The number of such batches is not limited, only how much one look reads.
func TestLearnOffsetBehindManyVoidBatches(t *testing.T) {
	w := newLookWorld(t)
	w.append(0, 100, 5)
	for range 300 {
		w.append(0, -1, 1)
		w.late(0, 105, 1, 5)
	}
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, timeline.ProbeEnd)
	got, _, ok := line.FindLogical(605)
	require.True(t, ok)
	require.EqualValues(t, 105, got)
	w.append(0, 110, 5)
	w.append(0, -1, 1)
	line = timeline.Open(0, 100, 100)
	w.look(line, 0, timeline.ProbeEnd)
	physical, looks := w.find(line, 0, 107)
	require.True(t, 5 <= physical && physical <= 605, "a hole, and what is void in it: %d", physical)
	require.Less(t, looks, 12)
	line.LearnProbe(0, 100, 5)
	for p := range int64(600) {
		line.LearnVoid(5+p, 6+p) // as a reader meets them
	}
	for _, logical := range []int64{105, 107, 110} {
		require.EqualValues(t, 605, line.ToPhysical(logical))
	}

	w.facts.maxLook = 1
	line = timeline.Open(0, 100, 100)
	w.look(line, 0, 5)
	_, _, ok = line.FindPhysical(112, 0)
	require.False(t, ok, "the batch is too far away")
	w.look(line, 0, timeline.ProbeEnd)
	_, _, ok = line.FindLogical(611)
	require.False(t, ok, "and so is the last one")
	w.facts.maxLook = maxLookBytes
	w.look(line, 0, 600)
	physical, _ = w.find(line, 0, 112)
	require.EqualValues(t, 607, physical)
}

// A log without a batch that counts has an end all the same.
func TestLearnOffsetWhereNothingCounts(t *testing.T) {
	w := newLookWorld(t)
	for range 20 {
		w.append(0, -1, 3)
	}
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, timeline.ProbeEnd)
	for _, physical := range []int64{0, 7, 60} {
		got, _, ok := line.FindLogical(physical)
		require.True(t, ok)
		require.EqualValues(t, 100, got)
	}
}

// Records that were deleted are not looked for again.
func TestLearnOffsetBelowLogStart(t *testing.T) {
	w := newLookWorld(t)
	for i := range int64(10) {
		w.append(0, 100+10*i, 5)
	}
	var offsets kadm.Offsets
	offsets.AddOffset("orders", 0, 20, -1)
	_, err := kadm.NewClient(w.client).DeleteRecords(context.Background(), offsets)
	require.NoError(t, err)
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, timeline.ProbeEnd)
	w.look(line, 0, 3)
	got, _, ok := line.FindPhysical(112, 0)
	require.True(t, ok)
	require.Less(t, got, int64(20), "out of range")
	got, _, ok = line.FindPhysical(143, 0)
	require.True(t, ok)
	require.EqualValues(t, 23, got)

	// All of them.
	offsets.AddOffset("orders", 0, 50, -1)
	offsets["orders"][0] = kadm.Offset{Topic: "orders", Partition: 0, At: 50}
	_, err = kadm.NewClient(w.client).DeleteRecords(context.Background(), offsets)
	require.NoError(t, err)
	line = timeline.Open(0, 100, 100)
	line.LearnProbe(50, 195, 0) // the checkpoint
	w.look(line, 0, timeline.ProbeEnd)
	got, _, ok = line.FindPhysical(195, 0)
	require.True(t, ok)
	require.EqualValues(t, 50, got)
	l, _, ok := line.FindLogical(50)
	require.True(t, ok)
	require.EqualValues(t, 195, l)
}

// A leader that has moved is found again.
func TestLearnOffsetAfterLeaderMoved(t *testing.T) {
	w := newLookWorld(t)
	w.append(0, 100, 5)
	w.append(0, 200, 5)
	line := timeline.Open(0, 100, 100)
	w.look(line, 0, 0)
	require.NoError(t, w.cluster.MoveTopicPartition("orders", 0, 1-w.cluster.LeaderFor("orders", 0)))
	w.look(line, 0, 6)
	got, _, ok := line.FindPhysical(203, 0)
	require.True(t, ok)
	require.EqualValues(t, 8, got)
}

// TestLearnOffsetInWindows: a stranger's batch has taken the place of one in a window. A look that
// begins anywhere in the log finds every offset where a walk from the start finds it.
func TestLearnOffsetInWindows(t *testing.T) {
	w := newLookWorld(t)
	place := int64(0)
	put := func(logical int64, n int, follows bool) {
		t.Helper()
		b := batch.Filler(nil, n, max(logical, 0))
		switch {
		case logical < 0:
			b = batchtest.WithoutStamp(t, b)
		default:
			require.NoError(t, batch.Stamp(b, logical, 0))
			batch.SetPlace(b, place)
			if follows {
				batch.SetPlaceAfter(b, place)
			}
		}
		batchtest.AppendAsIs(t, w.client, "orders", 1, b)
		place += int64(n)
	}
	want := map[int64]int64{} // physical offset of each logical one
	counts := func(logical int64, n int, follows bool) {
		t.Helper()
		for i := range int64(n) {
			want[logical+i] = place + i
		}
		put(logical, n, follows)
	}
	next := int64(100)
	for window := range 6 {
		for i := range 5 {
			counts(next, 3, i > 0)
			next += 3
		}
		if window%2 == 0 { // the next window's first batch is refused; a stranger writes as many
			put(-1, 3, false)
			put(next+3, 3, true)
			put(next+6, 3, true)
		}
		next += int64(window % 2) // a hole
	}
	for _, first := range []int64{timeline.ProbeEnd, 0, 16, 17, 18, 21, 24, 30, 50, place - 1, place} {
		line := timeline.Open(0, 100, 100)
		w.look(line, 1, first)
		for logical := int64(100); logical < next; logical++ {
			at, exists := want[logical]
			if !exists {
				continue
			}
			for tries := range 64 {
				physical, probe, ok := line.FindPhysical(logical, tries)
				if ok {
					for other, between := range want { // void batches may lie in between
						require.False(t, between >= physical && between < at, "offset %d, first look at %d: sent to %d, before %d", logical, first, physical, other)
					}
					require.LessOrEqual(t, physical, at, "offset %d, first look at %d", logical, first)
					break
				}
				require.LessOrEqual(t, physical, at, "offset %d, first look at %d", logical, first)
				w.look(line, 1, probe)
				require.Less(t, tries, 63, "offset %d is not found", logical)
			}
		}
		line = timeline.Open(0, 100, 100)
		w.look(line, 1, timeline.ProbeEnd)
		end, _, ok := line.FindLogical(place)
		require.True(t, ok)
		require.Equal(t, next-1, end, "behind the last record")
	}
}
