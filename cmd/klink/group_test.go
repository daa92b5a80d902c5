package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A group that has stopped at the source is migrated, excluded from the sync, and reported by
// partition. A failure is named, and does not hide what succeeded.
func TestGroupMigrate(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one", "two", "three")
	w.commit(w.source, "billing", "orders", 2)
	w.commit(w.source, "beyond", "orders", 5)

	dry := w.must("", "group", "migrate", "billing", "--link", "east", "--dry-run")
	require.Regexp(t, `(?m)^ Group +\| Topic +\| Partition \| Source Offset \| Destination Offset \| Clamped By$`, dry)
	require.Regexp(t, `(?m)^ billing \| orders \| +0 \| +2 \| 2 +\| 0$`, dry)
	require.NotContains(t, dry, "has moved")
	require.NotContains(t, w.must("", "link", "describe", "east"), "EXCLUDE")

	out, stderr, code := w.run("", "group", "migrate", "billing", "nosuch", "--link", "east")
	require.Equal(t, exitError, code)
	require.Regexp(t, `(?m)^ billing \| orders \| +0 \| +2 \| 2 +\| 0$`, out)
	require.Contains(t, out, `Group "billing" has moved: its consumers may start at the destination.`)
	require.Contains(t, stderr, `no group 'nosuch'`)
	require.Contains(t, w.must("", "link", "describe", "east"), `{"groupFilters":[{"name":"billing","patternType":"LITERAL","filterType":"EXCLUDE"}]}`)
	require.NotContains(t, w.must("", "link", "describe", "east"), "nosuch")

	require.Regexp(t, `(?m)^ beyond \| orders \| +0 \| +5 \| 3 +\| 2$`, w.must("", "group", "migrate", "beyond", "--link", "east"))
	require.Contains(t, w.must("", "group", "migrate", "beyond", "--link", "east", "-o", "json"), `"migrated": true`)
	require.Contains(t, w.refused("", "group", "migrate", "billing", "--link", "west"), `link "west"`)
	_, stderr, code = w.run("", "group", "migrate", "billing")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--link LINK is missing")
}
