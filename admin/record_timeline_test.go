package admin

import (
	"testing"

	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
)

// TestOpenTimeline: a timeline opened from a record translates the offsets that the record
// determines, and claims nothing about others.
func TestOpenTimeline(t *testing.T) {
	for name, c := range map[string]struct {
		r          timelineRecord
		checkpoint *checkpointRecord
		oneRun     bool
		// logical offsets by physical ones; -1 = not known yet
		want map[int64]int64
	}{
		"new":                       {timelineRecord{Logical: 100, Floor: 100}, nil, false, map[int64]int64{0: -1, 7: -1}},
		"aligned":                   {timelineRecord{Logical: 100, Physical: 100, Floor: 100, Alignment: &alignment{Began: -1}}, nil, false, map[int64]int64{107: -1}},
		"a checkpoint that fits":    {timelineRecord{Logical: 100, Floor: 100}, &checkpointRecord{Physical: 50, Logical: 150}, false, map[int64]int64{7: -1, 60: -1}},
		"a checkpoint behind holes": {timelineRecord{Logical: 100, Floor: 100}, &checkpointRecord{Physical: 50, Logical: 170}, false, map[int64]int64{7: -1, 60: -1}},
		"ended":                     {timelineRecord{Logical: 100, Floor: 100, End: &timelineEnd{50, 150, true}}, nil, true, map[int64]int64{7: 107, 50: 150, 60: 160}},
		"ended behind as many holes as void offsets": {timelineRecord{Logical: 100, Floor: 100, End: &timelineEnd{50, 150, false}}, nil, false, map[int64]int64{7: -1, 50: 150, 60: 160}},
		"ended before a hole, straight":              {timelineRecord{Logical: 100, Floor: 100, End: &timelineEnd{50, 151, true}}, nil, false, map[int64]int64{7: -1, 50: 151}},
		"ended behind a hole":                        {timelineRecord{Logical: 100, Floor: 100, End: &timelineEnd{50, 151, false}}, nil, false, map[int64]int64{7: -1, 50: 151, 60: 161}},
		"ended without a record":                     {timelineRecord{Logical: 90, Floor: 100, End: &timelineEnd{0, 100, false}}, nil, false, map[int64]int64{0: 100, 9: 109}},
		"by an earlier klink":                        {timelineRecord{Physical: 3, Logical: 8, Floor: 9}, nil, false, map[int64]int64{4: -1}},
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
	r := timelineRecord{Alignment: &alignment{Began: 0}}
	tl := r.open(&checkpointRecord{Physical: 1000, Logical: 2000})
	physical, _, ok := tl.FindPhysical(2000, 0)
	require.True(t, ok)
	require.EqualValues(t, 1000, physical)
	_, probe, ok := tl.FindPhysical(1000, 0)
	require.False(t, ok)
	require.NotEqualValues(t, timeline.ProbeEnd, probe)
	require.Less(t, probe, int64(1000))
}
