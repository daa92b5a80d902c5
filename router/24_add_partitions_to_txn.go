package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitionsToTxn: v0-3
//
// Behavior:
//   - If the request has a read-only mirror or a topic of klink's, nothing of it goes to the
//     broker. Otherwise the transaction coordinator would later write a commit or abort marker into
//     the partition, though no produce to it ever succeeded, and move its end.
//   - The answer is that of a broker that may not add one of the partitions
//     (KafkaApis.handleAddPartitionsToTxnRequest): the error for those, OPERATION_NOT_ATTEMPTED for
//     all others.
//
// Version notes: v4 and later are for brokers (KIP-890); klink does not offer them.
func init() { registerControl(int16(kmsg.AddPartitionsToTxn), handleAddPartitionsToTxn) }

func handleAddPartitionsToTxn(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	snapshot := s.snapshot()
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	refused := false
	for i := range req.Topics {
		t := &req.Topics[i]
		code := kerr.OperationNotAttempted.Code
		switch {
		case isInternal(t.Topic):
			code, refused = kerr.TopicAuthorizationFailed.Code, true
		case snapshot.readOnlyMirror(t.Topic) != nil:
			code, refused = kerr.InvalidRequest.Code, true
		}
		topic := kmsg.NewAddPartitionsToTxnResponseTopic()
		topic.Topic = t.Topic
		for _, partition := range t.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition, p.ErrorCode = partition, code
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	if !refused {
		return Decision{Action: Forward, Frame: frame}
	}
	return answer(h, resp)
}
