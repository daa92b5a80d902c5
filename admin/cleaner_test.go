package admin

import (
	"context"
	"testing"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
)

const endless = "9223372036854775807"

// TestKeepFromCleaner: a compacted mirror has the compaction lags of its source, raised to what
// klink needs. At the stop it gets the source's own values back, whatever they are.
func TestKeepFromCleaner(t *testing.T) {
	both := map[string]linkconfig.TopicConfig{linkconfig.MinLagConfig: {}, linkconfig.MaxLagConfig: {}}
	text := func(v *string) string {
		if v == nil {
			return "none"
		}
		return *v
	}
	for name, c := range map[string]struct {
		policy, min, max string // of the source; "" = it has none
		known            map[string]linkconfig.TopicConfig
		hold             bool
		want, atStop     [2]string
	}{
		"defaults":            {"compact", "0", endless, both, false, [2]string{"600000", endless}, [2]string{"0", endless}},
		"longer":              {"compact", "700000", endless, both, false, [2]string{"700000", endless}, [2]string{"700000", endless}},
		"a short maximum":     {"compact,delete", "1", "1000", both, false, [2]string{"600000", "600000"}, [2]string{"1", "1000"}},
		"held":                {"compact", "700000", "800000", both, true, [2]string{endless, endless}, [2]string{"700000", "800000"}},
		"not compacted":       {"delete", "0", "1000", both, true, [2]string{"0", "1000"}, [2]string{"none", "none"}},
		"an old source":       {"compact", "", "", both, false, [2]string{"600000", endless}, [2]string{"none", "none"}},
		"an old destination":  {"compact", "0", "", map[string]linkconfig.TopicConfig{linkconfig.MinLagConfig: {}}, true, [2]string{endless, ""}, [2]string{"0", "none"}},
		"no such configs yet": {"compact", "", "", nil, true, [2]string{"", ""}, [2]string{"none", "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			configs, atStop := map[string]string{"cleanup.policy": c.policy}, map[string]*string{}
			if c.min != "" {
				configs[linkconfig.MinLagConfig] = c.min
			}
			if c.max != "" {
				configs[linkconfig.MaxLagConfig] = c.max
			}
			keepFromCleaner(configs, atStop, c.known, c.hold)
			require.Equal(t, c.want, [2]string{configs[linkconfig.MinLagConfig], configs[linkconfig.MaxLagConfig]})
			require.Equal(t, c.atStop, [2]string{text(atStop[linkconfig.MinLagConfig]), text(atStop[linkconfig.MaxLagConfig])})
		})
	}
}

// TestRealVoidHoldsCompaction: once void batches are reported, a mirror is not compacted, whoever
// sets its configs. When it is stopped it gets the source's own configs, unless the records that
// the batches hide could not be appended again.
func TestRealVoidHoldsCompaction(t *testing.T) {
	src, dst := kafkatest.Shared(t, "source"), kafkatest.Shared(t, "destination")
	for _, unrepaired := range []string{"", "the broker refuses it"} {
		t.Run(unrepaired, func(t *testing.T) {
			table, link := "void", "void"
			if unrepaired != "" {
				table, link = "void-for-good", "void-for-good"
			}
			w := realService(t, src, dst)
			w.linkTo(src, link, linkconfig.ConfigTopicSyncMs+"=200")
			w.sourceTopic(table, 1, map[string]string{"cleanup.policy": "compact", linkconfig.MinLagConfig: "5000"})
			require.Zero(t, w.mirror(table, link).ErrorCode)
			w.report(model.Event{Kind: model.EventMirrorStarted, Topic: table})
			lags := func(min, max string) map[string]string {
				return map[string]string{linkconfig.MinLagConfig: min, linkconfig.MaxLagConfig: max, "cleanup.policy": "compact"}
			}
			w.awaitConfigs(table, lags("600000", endless))
			require.Empty(t, w.describe(w.service, table).Notices)

			void := model.VoidBatches{Partition: 0, From: 7, To: 9, Offsets: 2, Foreign: 2}
			w.report(model.Event{Kind: model.EventMirrorVoid, Topic: table, Void: void})
			w.awaitConfigs(table, lags(endless, endless))
			m := w.service.State().Mirrors[table]
			require.True(t, m.CompactionRests())
			require.Equal(t, model.MirrorActive, m.State)
			d := w.describe(w.service, table)
			require.Len(t, d.Notices, 1)
			require.Contains(t, d.Notices[0], "partition 0 from physical offset 7 on; somebody wrote 2 of them, not through klink")
			require.Contains(t, d.Notices[0], "COMPACTION IS PAUSED")
			require.Contains(t, d.Notices[0], "klink is checking whether the cleaner")
			require.Empty(t, d.ConfigDrift)
			void.Safe = true
			w.report(model.Event{Kind: model.EventMirrorVoid, Topic: table, Void: void})
			require.NotContains(t, w.describe(w.service, table).Notices[0], "klink is checking whether the cleaner")

			w.setSource(table, map[string]string{linkconfig.MinLagConfig: "900000", "retention.ms": "12345"})
			w.awaitConfigs(table, map[string]string{"retention.ms": "12345"})
			setConfigs(t, w.destAdmin, table, map[string]string{linkconfig.MinLagConfig: "0"})
			w.awaitConfigs(table, lags(endless, endless))
			require.Empty(t, w.describe(w.service, table).ConfigDrift)

			r := w.failover(table, model.Event{Ended: []model.PartitionEnd{{Physical: 0}}, PhysicalEnds: []int64{9}, Unrepaired: unrepaired, Message: "look at the source"})
			require.Zero(t, r.ErrorCode)
			m = w.service.State().Mirrors[table]
			require.Equal(t, model.MirrorStopped, m.State)
			if unrepaired == "" {
				require.False(t, m.HasVoid())
				require.Equal(t, "look at the source", m.ErrorMessage)
				w.awaitConfigs(table, lags("900000", endless))
				return
			}
			require.Contains(t, m.ErrorMessage, unrepaired)
			require.Contains(t, m.ErrorMessage, "compaction of the topic is paused")
			require.Contains(t, w.describe(w.service, table).Notices[0], "Compaction is paused")
			w.runs(link, "TopicConfigsSync")
			w.awaitConfigs(table, lags(endless, endless))
		})
	}
}

// TestRealNobodyLooksNothingIsCompacted: a mirror is not compacted while it is paused, while its
// link is paused, or after it has FAILED.
func TestRealNobodyLooksNothingIsCompacted(t *testing.T) {
	src, dst := kafkatest.Shared(t, "source"), kafkatest.Shared(t, "destination")
	w := realService(t, src, dst)
	w.linkTo(src, "rests", linkconfig.ConfigTopicSyncMs+"=200")
	for _, policy := range []string{"compact", "delete"} {
		w.sourceTopic(policy, 1, map[string]string{"cleanup.policy": policy, linkconfig.MinLagConfig: "700000"})
		require.Zero(t, w.mirror(policy, "rests").ErrorCode)
		w.report(model.Event{Kind: model.EventMirrorStarted, Topic: policy})
	}
	is := func(lag string) {
		t.Helper()
		w.awaitConfigs("compact", map[string]string{linkconfig.MinLagConfig: lag})
		require.Equal(t, "700000", w.configsOf("delete")[linkconfig.MinLagConfig])
	}
	is("700000")
	for _, topic := range []string{"compact", "delete"} {
		require.Zero(t, w.alter(topic, linkapi.MirrorPause).ErrorCode)
	}
	is(endless)
	for _, topic := range []string{"compact", "delete"} {
		require.Zero(t, w.alter(topic, linkapi.MirrorResume).ErrorCode)
	}
	is("700000")
	w.setLink("rests", linkconfig.ConfigLinkPaused+"=true")
	is(endless)
	w.setLink("rests", linkconfig.ConfigLinkPaused+"=false")
	w.report(model.Event{Kind: model.EventMirrorStarted, Topic: "compact"})
	is("700000")
	w.report(model.Event{Kind: model.EventMirrorFailed, Topic: "compact", Error: model.ErrRecordsCompacted, Message: "k"})
	is(endless)
	require.Zero(t, w.failover("compact", model.Event{Ended: []model.PartitionEnd{{}}}).ErrorCode)
	is("700000")
	require.NoError(t, w.service.holdCompaction(context.Background(), "delete"))
	is("700000")
}
