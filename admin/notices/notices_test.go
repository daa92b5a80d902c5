package notices

import (
	"testing"

	"klink/admin/model"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TestTopicNotices: notices name how a mirror's topic, by the metadata of the destination, differs
// from what klink has made of it.
func TestTopicNotices(t *testing.T) {
	topic := func(replicas ...int) kadm.TopicDetail {
		d := kadm.TopicDetail{ID: kadm.TopicID{1}, Partitions: kadm.PartitionDetails{}}
		for p, n := range replicas {
			d.Partitions[int32(p)] = kadm.PartitionDetail{Partition: int32(p), Replicas: make([]int32, n)}
		}
		return d
	}
	other := topic(3, 3)
	other.ID = kadm.TopicID{2}
	old := topic(3, 3)
	old.ID = kadm.TopicID{} // before topic ids
	for name, c := range map[string]struct {
		factor int16
		t      kadm.TopicDetail
		want   []string
	}{
		"as it was made":           {3, topic(3, 3), nil},
		"the brokers' default":     {-1, topic(2, 2), nil},
		"no topic ids":             {3, old, nil},
		"more partitions":          {3, topic(3, 3, 3), []string{"has 3 partitions at the destination, but 2 at the source"}},
		"fewer replicas":           {3, topic(3, 1), []string{"Partition 1 has 1 replicas at the destination, but the topic was created with 3"}},
		"more replicas":            {1, topic(2, 2), []string{"Partition 0 has 2 replicas at the destination, but the topic was created with 1"}},
		"other replicas":           {-1, topic(2, 3), []string{"Partition 1 has 3 replicas at the destination, but the topic was created with 2"}},
		"both":                     {3, topic(3, 2, 1), []string{"has 3 partitions", "Partition 1 has 2 replicas"}},
		"another topic":            {3, other, []string{"The mirror's topic was deleted and created again"}},
		"no topic":                 {3, kadm.TopicDetail{Err: kerr.UnknownTopicOrPartition}, []string{"The topic does not exist at the destination"}},
		"a topic that is not told": {3, kadm.TopicDetail{Err: kerr.LeaderNotAvailable}, nil},
		"partitions that are made": {3, topic(3), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := topicNotices(&model.Mirror{TopicID: [16]byte{1}, Partitions: 2, ReplicationFactor: c.factor}, c.t)
			require.Len(t, got, len(c.want))
			for i, want := range c.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}
