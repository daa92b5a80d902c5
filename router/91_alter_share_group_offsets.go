package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterShareGroupOffsets: v0
//
// Behavior: share groups cannot read mirrors, so they have no offsets in them either. A request
// that sets one is refused as a whole.
func init() { registerControl(int16(kmsg.AlterShareGroupOffsets), handleAlterShareGroupOffsets) }

func handleAlterShareGroupOffsets(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	snapshot := s.snapshot()
	for i := range req.Topics {
		topic := req.Topics[i].Topic
		if snapshot.Mirrors[topic] == nil {
			continue
		}
		v := refuseShareOf(topic)
		resp := req.ResponseKind().(*kmsg.AlterShareGroupOffsetsResponse)
		resp.ErrorCode, resp.ErrorMessage = v.code, v.message
		return answer(ownHeader(h), resp)
	}
	return Decision{Action: Forward, Frame: frame}
}
