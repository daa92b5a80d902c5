package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupHeartbeat: v0-1
//
// Behavior: a member that subscribes to a mirror is refused (INVALID_REQUEST). Kafka's share
// consumer treats that as fatal and throws the message. klink refuses ShareFetch too, but that
// alone would not reach the user: the consumer silently begins a new session and asks again at
// once, without end.
func init() { registerControl(int16(kmsg.ShareGroupHeartbeat), handleShareGroupHeartbeat) }

func handleShareGroupHeartbeat(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	snapshot := s.snapshot()
	for _, topic := range req.SubscribedTopicNames {
		if snapshot.Mirrors[topic] == nil {
			continue
		}
		v := refuseShareOf(topic)
		resp := req.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
		resp.ErrorCode, resp.ErrorMessage = v.code, v.message
		return answer(ownHeader(h), resp)
	}
	return Decision{Action: Forward, Frame: frame}
}

// refuseShareOf says that a share group cannot read a mirror.
func refuseShareOf(topic string) verdict {
	return refuse(kerr.InvalidRequest, "Share groups cannot read mirror topic '%s': use a consumer group", topic)
}
