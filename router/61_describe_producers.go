package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers: v0
//
// Behavior: transaction start offsets of mirrors in the response are made logical.
func init() { register(int16(kmsg.DescribeProducers), (*session).describeProducers) }

func (s *session) describeProducers(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateDescribeProducers)
}
