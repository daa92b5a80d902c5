package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeShareGroupOffsets: v0-1, AlterShareGroupOffsets: v0
//
// Behavior: share groups cannot read mirrors, so they have no offsets in them either. A request
// that sets one is refused as a whole. The response shows offsets that were set around klink as
// unknown, with an error.
func init() {
	register(90, (*session).describeShareGroupOffsets)
	registerControl(int16(kmsg.AlterShareGroupOffsets), handleAlterShareGroupOffsets)
}

func (s *session) describeShareGroupOffsets(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.HideShareGroupOffsets)
}

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
