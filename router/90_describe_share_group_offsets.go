package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeShareGroupOffsets: v0-1
//
// Behavior: share groups cannot read mirrors. The response shows offsets in a mirror, which were
// set around klink, as unknown, with an error.
func init() {
	register(int16(kmsg.DescribeShareGroupOffsets), (*session).describeShareGroupOffsets)
}

func (s *session) describeShareGroupOffsets(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.HideShareGroupOffsets)
}
