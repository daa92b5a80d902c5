package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A log may end in offsets that hold no record, as a mirror's does after a hole: reading it must
// come to an end.
func TestReadAllTrailingHole(t *testing.T) {
	c := Embedded(t, 1)
	seeds := kgo.SeedBrokers(c.ListenAddrs()...)
	cl := NewClient(t, seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	CreateTopic(t, cl, "hole", 2, 1, nil)
	Produce(t, cl, "hole", 0, Records(5, 10)...)
	Produce(t, cl, "hole", 1, Records(3, 10)...)

	// The end of partition 0 is 8, though the log has nothing after offset 4.
	c.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		list := req.(*kmsg.ListOffsetsRequest)
		resp := list.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range list.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition = p.Partition
				if rp.Offset = 0; p.Timestamp == -1 {
					rp.Offset = []int64{8, 3}[p.Partition]
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	got := ReadAll(t, "hole", seeds)
	if len(got) != 8 {
		t.Fatalf("%d records, want 8", len(got))
	}
	for i, want := range []struct {
		partition int32
		offset    int64
	}{{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 0}, {1, 1}, {1, 2}} {
		if got[i].Partition != want.partition || got[i].Offset != want.offset {
			t.Errorf("record %d is from %d at %d, want %v", i, got[i].Partition, got[i].Offset, want)
		}
	}
}
