package store

import (
	"testing"

	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
)

// TestOpenTimeline: a timeline opened from a record translates the offsets that the record
// determines, and claims nothing about others.
func TestOpenTimeline(t *testing.T) {
	for name, c := range map[string]struct {
		r          TimelineRecord
		checkpoint *CheckpointRecord
		oneRun     bool
		// logical offsets by physical ones; -1 = not known yet
		want map[int64]int64
	}{
		"new":                       {TimelineRecord{Logical: 100, Floor: 100}, nil, false, map[int64]int64{0: -1, 7: -1}},
		"aligned":                   {TimelineRecord{Logical: 100, Physical: 100, Floor: 100, Alignment: &Alignment{Began: -1}}, nil, false, map[int64]int64{107: -1}},
		"a checkpoint that fits":    {TimelineRecord{Logical: 100, Floor: 100}, &CheckpointRecord{Physical: 50, Logical: 150}, false, map[int64]int64{7: -1, 60: -1}},
		"a checkpoint behind holes": {TimelineRecord{Logical: 100, Floor: 100}, &CheckpointRecord{Physical: 50, Logical: 170}, false, map[int64]int64{7: -1, 60: -1}},
		"ended":                     {TimelineRecord{Logical: 100, Floor: 100, End: &TimelineEnd{50, 150, true}}, nil, true, map[int64]int64{7: 107, 50: 150, 60: 160}},
		"ended behind as many holes as void offsets": {TimelineRecord{Logical: 100, Floor: 100, End: &TimelineEnd{50, 150, false}}, nil, false, map[int64]int64{7: -1, 50: 150, 60: 160}},
		"ended before a hole, straight":              {TimelineRecord{Logical: 100, Floor: 100, End: &TimelineEnd{50, 151, true}}, nil, false, map[int64]int64{7: -1, 50: 151}},
		"ended behind a hole":                        {TimelineRecord{Logical: 100, Floor: 100, End: &TimelineEnd{50, 151, false}}, nil, false, map[int64]int64{7: -1, 50: 151, 60: 161}},
		"ended without a record":                     {TimelineRecord{Logical: 90, Floor: 100, End: &TimelineEnd{0, 100, false}}, nil, false, map[int64]int64{0: 100, 9: 109}},
		"by an earlier klink":                        {TimelineRecord{Physical: 3, Logical: 8, Floor: 9}, nil, false, map[int64]int64{4: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			tl := c.r.open(c.checkpoint)
			require.Equal(t, c.oneRun, tl.OneRun())
			for physical, want := range c.want {
				logical, _, ok := tl.FindLogical(physical)
				require.Equal(t, want >= 0, ok, "physical %d", physical)
				if ok {
					require.Equal(t, want, logical, "physical %d", physical)
				}
			}
		})
	}
}

// TestCheckpointIsAnAnchor: between the start and a checkpoint few probes are needed.
func TestCheckpointIsAnAnchor(t *testing.T) {
	r := TimelineRecord{Alignment: &Alignment{Began: 0}}
	tl := r.open(&CheckpointRecord{Physical: 1000, Logical: 2000})
	physical, _, ok := tl.FindPhysical(2000, 0)
	require.True(t, ok)
	require.EqualValues(t, 1000, physical)
	_, probe, ok := tl.FindPhysical(1000, 0)
	require.False(t, ok)
	require.NotEqualValues(t, timeline.ProbeEnd, probe)
	require.Less(t, probe, int64(1000))
}

// TestEndIsFinal: the end of a mirror is stored once and never changes.
func TestEndIsFinal(t *testing.T) {
	r := &TimelineRecord{Physical: 2, Logical: 4, Floor: 4}
	require.Error(t, r.SetEnd("orders", 0, TimelineEnd{1, 4, false}), "before its start")
	require.NoError(t, r.SetEnd("orders", 0, TimelineEnd{7, 9, true}))
	require.NoError(t, r.SetEnd("orders", 0, TimelineEnd{7, 9, false}), "again, by who knows less")
	require.True(t, r.End.Straight)
	require.ErrorContains(t, r.SetEnd("orders", 0, TimelineEnd{8, 9, false}), "has ended at physical offset 7, logical 9")
}
