package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// WriteTxnMarkers: v0-2
//
// Behavior: a request with a partition of a read-only mirror, or of klink's own topics, is refused
// as a whole: those partitions get INVALID_REQUEST or TOPIC_AUTHORIZATION_FAILED, all others
// OPERATION_NOT_ATTEMPTED. A marker takes an offset, and would shift a mirror.
func init() { registerControl(int16(kmsg.WriteTxnMarkers), (*session).writeTxnMarkers) }

func (s *session) writeTxnMarkers(h protocol.RequestHeader, frame []byte) Decision {
	sn := s.snapshot()
	markers, err := protocol.ReadWriteTxnMarkers(frame, h)
	if err != nil {
		return closeMalformed(h, err)
	}
	codeOf := func(topic []byte) int16 {
		if code, _ := refuseProduce(sn, string(topic)); code != nil {
			return code.Code
		}
		return kerr.OperationNotAttempted.Code
	}
	for _, m := range markers {
		for _, t := range m.Topics {
			if codeOf(t.Name) != kerr.OperationNotAttempted.Code {
				return Decision{Action: Answer, Frame: protocol.AppendWriteTxnMarkers(nil, h, markers, codeOf)}
			}
		}
	}
	return Decision{Action: Forward, Frame: frame}
}
