package router

import "klink/protocol"

// OffsetForLeaderEpoch: v0-4
//
// Behavior: end offsets of mirrors in the response are made logical. Leader epochs are the
// destination's everywhere.
func init() { register(23, (*session).offsetForLeaderEpoch) }

func (s *session) offsetForLeaderEpoch(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateOffsetForLeaderEpoch)
}
