package admin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/internal/parallel"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRealMirror creates and stops mirrors between two Apache Kafka clusters and looks at the
// topics' configs.
func TestRealMirror(t *testing.T) {
	for _, old := range []bool{false, true} {
		name := map[bool]string{false: "from 4.3.1", true: "from 2.4.1"}[old]
		t.Run(name, func(t *testing.T) { testRealMirror(t, old) })
	}
}

func testRealMirror(t *testing.T, old bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dst := kafkatest.Shared(t, "destination")
	var src *kafkatest.Cluster
	topic, link := "orders", "new"
	if old {
		src = kafkatest.SharedOld(t, "old")
		topic, link = "orders-of-old", "old"
	} else {
		src = kafkatest.Shared(t, "source")
	}
	client := src.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	sourceConfigs := map[string]string{
		"retention.ms": "3155760000000", "compression.type": "lz4", "segment.bytes": "10485760", "max.message.bytes": "2000000",
	}
	kafkatest.CreateTopic(t, client, topic, 3, 1, sourceConfigs)
	kafkatest.Produce(t, client, topic, 1, kafkatest.Records(10, 100)...)
	kafkatest.DeleteRecordsBefore(t, client, topic, 1, 7)

	w := &world{t: t, destAdmin: kadm.NewClient(dst.Client(t, kafkaclient.FreshMetadata)), seeds: []string{dst.Bootstrap()}}
	service, err := New(Config{
		Destination: clientOptions(t, dst.Bootstrap()), Logger: testLogger(t), ReconcileInterval: 100 * time.Millisecond,
		Publish: func(s *router.Snapshot) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.snap = s
		},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	require.NoError(t, service.Start(ctx))
	require.NoError(t, service.waitReady(ctx))
	w.service = service
	w.replicator()

	address := src.Bootstrap()
	create := &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{{Name: link, Configs: []linkapi.Config{{Name: linkconfig.ConfigBootstrapServers, Value: &address}}}}}
	created := service.HandleLink(ctx, create).(*linkapi.CreateLinksResponse).Results[0]
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	require.NotEmpty(t, created.SourceClusterID)
	r := w.mirror(topic, link)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))

	configs := w.configsOf(topic)
	for name, value := range map[string]string{
		"retention.ms": "3155760000000", "segment.bytes": "10485760", "max.message.bytes": "2000000", "cleanup.policy": "delete",
		"compression.type": "producer", "message.timestamp.type": "CreateTime",
		"message.timestamp.before.max.ms": "9223372036854775807", "message.timestamp.after.max.ms": "9223372036854775807",
	} {
		require.Equal(t, value, configs[name], name)
	}
	m := service.State().Mirrors[topic]
	require.NotZero(t, m.TopicID)
	require.Equal(t, old, m.SourceTopicID == [16]byte{}, "brokers before 2.8 have no topic ids")
	require.EqualValues(t, 7, w.snapshot().Mirrors[topic].Timeline(1).Shift())

	require.NoError(t, service.GrowMirror(ctx, topic, []model.Start{{Partition: 3, Logical: 5, Floor: 5}}))
	details, err := w.destAdmin.ListTopics(ctx, topic)
	require.NoError(t, err)
	require.Len(t, details[topic].Partitions, 4)

	const groups = 300
	group := func(i int) string { return fmt.Sprintf("%s-%d", topic, i) }
	parallel.ForEach(groups, func(i int) { w.commit(group(i), topic, "mine", 0, int64(i)) })
	w.active(topic+"-active", topic, 40)
	began := time.Now()
	stopped := w.alter(topic, linkapi.MirrorFailover)
	require.Zero(t, stopped.ErrorCode, text(stopped.ErrorMessage))
	t.Logf("stopped with %d groups beyond the end in %s", groups-8, time.Since(began))
	for _, i := range []int{0, 6, 7, 8, groups - 1} {
		o := w.committed(group(i), topic, 1)
		require.EqualValues(t, min(i, 7), o.At, "group %d", i)
		require.Equal(t, "mine", o.Metadata)
	}
	require.EqualValues(t, 40, w.committed(topic+"-active", topic, 0).At)
	require.Contains(t, service.State().Mirrors[topic].ErrorMessage, "-active has offset 40 in partition 0, which ends at 0 (the group is active)")
	configs = w.configsOf(topic)
	require.Equal(t, "lz4", configs["compression.type"])
	if old {
		require.NotContains(t, configs, "message.timestamp.after.max.ms", "the source has no such config: the destination's default")
	} else {
		require.Equal(t, "3600000", configs["message.timestamp.after.max.ms"])
	}

	_, err = w.destAdmin.DeleteTopics(ctx, topic)
	require.NoError(t, err)
	_, err = w.destAdmin.CreateTopics(ctx, 1, 1, nil, topic)
	require.NoError(t, err)
	awaitState(t, service, "forgotten", func(s *model.State) bool { return s.Mirrors[topic] == nil })
	_, err = w.destAdmin.DeleteTopics(ctx, topic)
	require.NoError(t, err)
}
