package replicator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// askEnds is a ListOffsets request to one broker for the high watermarks of partitions that it
// leads. For one goroutine.
type askEnds struct {
	req    *kmsg.ListOffsetsRequest
	topics map[string]int // index in req.Topics, by name
}

func newAskEnds() *askEnds {
	q := &askEnds{req: kmsg.NewPtrListOffsetsRequest(), topics: map[string]int{}}
	q.req.ReplicaID = -1
	return q
}

// add adds a partition to the request. From ListOffsets v4 on, a broker that knows another leader
// epoch answers with an error.
func (q *askEnds) add(at partitionAt, epoch int32) {
	n, ok := q.topics[at.topic]
	if !ok {
		n = len(q.req.Topics)
		q.topics[at.topic] = n
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = at.topic
		q.req.Topics = append(q.req.Topics, t)
	}
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.Timestamp, p.MaxNumOffsets = at.partition, epoch, timestampLatest, 1
	q.req.Topics[n].Partitions = append(q.req.Topics[n].Partitions, p)
}

// send sends the request.
func (q *askEnds) send(ctx context.Context, to requester) (*kmsg.ListOffsetsResponse, error) {
	resp, err := to.Request(ctx, q.req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.ListOffsetsResponse), nil
}
