package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch: v0-4
//
// Behavior: end offsets of mirrors in the response are made logical. Leader epochs are the
// destination's everywhere.
func init() { register(int16(kmsg.OffsetForLeaderEpoch), (*session).offsetForLeaderEpoch) }

func (s *session) offsetForLeaderEpoch(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateOffsetForLeaderEpoch)
}
