package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions: v0-3
//
// Behavior: refused for read-only mirrors, whose partitions follow the source, and for klink's own
// topics. Other topics of the request go to the broker.
func init() { registerControl(int16(kmsg.CreatePartitions), handleCreatePartitions) }

func handleCreatePartitions(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrCreatePartitionsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	rest := *req
	rest.Topics = nil
	var order []string
	ours := make(map[string]kmsg.CreatePartitionsResponseTopic)
	snapshot := s.snapshot()
	for i := range req.Topics {
		t := &req.Topics[i]
		order = append(order, t.Topic)
		var v verdict
		switch {
		case isInternal(t.Topic):
			v = refuseInternal(t.Topic)
		case snapshot.readOnlyMirror(t.Topic) != nil:
			v = refuse(kerr.InvalidRequest, "Cannot create partitions of read-only mirror topic '%s': they follow the source", t.Topic)
		default:
			rest.Topics = append(rest.Topics, *t)
			continue
		}
		refused := kmsg.NewCreatePartitionsResponseTopic()
		refused.Topic, refused.ErrorCode, refused.ErrorMessage = t.Topic, v.code, v.message
		ours[t.Topic] = refused
	}
	if len(ours) == 0 {
		return Decision{Action: Forward, Frame: frame}
	}
	h = ownHeader(h)
	finish := func(resp kmsg.Response) Decision {
		r := resp.(*kmsg.CreatePartitionsResponse)
		r.Topics = merge(order, ours, r.Topics, func(t *kmsg.CreatePartitionsResponseTopic) string { return t.Topic })
		return answer(h, r)
	}
	if len(rest.Topics) == 0 {
		return finish(rest.ResponseKind())
	}
	return ask(h, &rest, finish)
}
