package store

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"klink/admin/caslog"
	"klink/admin/model"

	"github.com/stretchr/testify/require"
)

// hostileValues are values that cost a decoder far more than their size.
func hostileValues() map[string]string {
	return map[string]string{
		"nested arrays":   `{"version":1,"stamp":3,"state":"ACTIVE","x":` + strings.Repeat("[", 2<<20) + strings.Repeat("]", 2<<20) + `}`,
		"nested objects":  `{"version":1,"stamp":3,"state":"ACTIVE","x":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + `}`,
		"many elements":   `{"version":1,"stamp":3,"state":"ACTIVE","hidden":[` + strings.Repeat("[0,1],", 600_000) + `[0,1]],"acls":[]}`,
		"many fields":     `{"version":1,"state":"ACTIVE"` + manyFields(300_000) + `}`,
		"a long value":    `{"version":1,"stamp":3,"state":"ACTIVE","x":"` + strings.Repeat("x", maxRecordBytes) + `"}`,
		"nothing":         ``,
		"half a record":   `{"version":1,"stamp":3,"state":"ACTIVE","partitions":2`,
		"another version": `{"version":99,"state":"ACTIVE"}`,
		"no version":      `{"state":"ACTIVE"}`,
		"null":            `null`,
		"a wrong type":    `{"version":1,"state":7,"physical":"0","lease_ms":"x","acls":3,"link_id":3,"groups":3,"mirror":3,"link":7}`,
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"f%d":[]`, i)
	}
	return b.String()
}

// Unreadable records of each kind cost little, and klink assumes the worst about what they
// describe.
func TestHostileRecords(t *testing.T) {
	keys := []string{"link/a", "mirror/a", "timeline/a/0", "checkpoint/a/0", "offsets/a", "acls/a/0", "instance/a"}
	good := map[string]string{
		"mirror/a": `{"version":1,"stamp":3,"state":"ACTIVE","partitions":2,"created":true}`, "timeline/a/0": `{"version":1,"physical":0,"logical":0,"floor":0}`,
		"timeline/a/1": `{"version":1,"physical":0,"logical":0,"floor":0}`,
	}
	for what, value := range hostileValues() {
		for _, key := range keys {
			s := newStore(nil, testLogger(t))
			s.log = &caslog.Log{}
			for k, v := range good {
				s.apply(k, []byte(v), 5)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.apply(key, []byte(value), 77)
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; cost > 8<<20 {
				t.Errorf("%s: %s costs %d bytes", key, what, cost)
			}
			err := s.records.broken[key]
			require.ErrorContains(t, err, key, what)
			require.ErrorContains(t, err, "offset 77", what)
			state := s.State()
			switch key {
			case "link/a":
				require.Equal(t, model.LinkFailed, state.Links["a"].State)
				require.Contains(t, state.Links["a"].ErrorMessage, "offset 77")
			case "mirror/a", "timeline/a/0", "checkpoint/a/0":
				require.Equal(t, model.MirrorFailed, state.Mirrors["a"].State, "%s: %s", key, what)
				require.Contains(t, state.Mirrors["a"].ErrorMessage, "offset 77")
				require.True(t, Snapshot(state).Mirrors["a"].ReadOnly)
			case "instance/a":
				others := s.Instances("self")
				require.Len(t, others, 1)
				require.Equal(t, unreadableInstance, others[0].InstanceRecord)
			}
			// A readable record, or none, takes its place.
			s.apply(key, nil, 78)
			require.Empty(t, s.records.broken)
		}
	}
}

// Numbers in the records of mirrors make klink allocate memory. It is bounded over all mirrors, and
// freed again.
func TestHostilePartitions(t *testing.T) {
	s := newStore(nil, testLogger(t))
	s.log = &caslog.Log{}
	value := fmt.Appendf(nil, `{"version":1,"stamp":3,"state":"ACTIVE","partitions":%d,"created":true}`, MaxPartitions)
	const mirrors = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range mirrors {
		s.apply(fmt.Sprintf("mirror/m%03d", i), value, int64(i))
	}
	state := s.State()
	runtime.ReadMemStats(&after)
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 64<<20 {
		t.Errorf("%d records of %d bytes cost %d bytes", mirrors, len(value), cost)
	}
	require.Len(t, state.Mirrors, mirrors)
	require.Len(t, s.records.broken, mirrors-maxStatePartitions/MaxPartitions)
	for topic, m := range Snapshot(state).Mirrors {
		require.True(t, m.ReadOnly, topic)
	}
	for i := range mirrors {
		s.apply(fmt.Sprintf("mirror/m%03d", i), nil, int64(mirrors+i))
	}
	require.Zero(t, s.records.partitions)
}
