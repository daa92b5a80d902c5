package admin

import (
	"slices"
	"testing"

	"klink/admin/linkconfig"
	"klink/admin/topicconfig"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
)

// TestTopicConfigKinds: no client can alter a mirror's config if it makes brokers rewrite the
// mirror's batches, or refuse them for good.
func TestTopicConfigKinds(t *testing.T) {
	synced := linkconfig.SyncedConfigs(map[string]string{linkconfig.ConfigTopicSyncInclude: "retention.ms"})
	// klink neither sets nor follows segment.bytes: clients may give a mirror its own when they
	// create it.
	guarded := []string{"segment.bytes"}
	for name, kind := range linkconfig.TopicConfigKinds {
		_, own := linkconfig.Overridden[name]
		switch kind {
		case linkconfig.RewritesBatches:
			require.True(t, own, "%s rewrites batches and is not set at mirrors", name)
		case linkconfig.RefusesBatches:
			require.True(t, own || slices.Contains(linkconfig.AlwaysFollowed, name) || slices.Contains(guarded, name), "%s is anybody's to set", name)
		}
		if kind != linkconfig.KeepsBatches {
			require.True(t, synced[name], "clients may alter %s", name)
		}
		if kind != linkconfig.KeepsBatches && !slices.Contains(guarded, name) {
			_, _, refused := linkconfig.MirrorConfigs("t", linkconfig.AlwaysFollowed, nil, nil, map[string]string{name: "x"})
			require.NotNil(t, refused, "a mirror can be created with its own %s", name)
		}
	}
	for name := range linkconfig.Overridden {
		require.NotEqual(t, linkconfig.KeepsBatches, linkconfig.TopicConfigKinds[name], name)
	}
}

// TestRealTopicConfigKinds: klink classifies every topic config of the brokers that it is tested
// with.
func TestRealTopicConfigKinds(t *testing.T) {
	for _, v := range []kafkatest.Version{kafkatest.V431, kafkatest.V282, kafkatest.V241} {
		t.Run(string(v), func(t *testing.T) {
			c := kafkatest.StartRelease(t, v)
			kafkatest.CreateTopic(t, c.Client(t), "t", 1, 1, nil)
			configs, err := topicconfig.Describe(t.Context(), kadm.NewClient(c.Client(t)), "t")
			require.NoError(t, err)
			require.NotEmpty(t, configs)
			for name := range configs {
				require.Contains(t, linkconfig.TopicConfigKinds, name, "a topic config that nobody has judged")
			}
		})
	}
}
