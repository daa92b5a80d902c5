package router

import "klink/protocol"

// DescribeProducers: v0
//
// Behavior: transaction start offsets of mirrors in the response are made logical.
func init() { register(61, (*session).describeProducers) }

func (s *session) describeProducers(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateDescribeProducers)
}
