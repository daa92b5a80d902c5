package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareAcknowledge: v0-2
//
// Behavior: node endpoints get their addresses at klink. The requests that klink refuses for
// ShareFetch are refused here, too.
func init() { register(int16(kmsg.ShareAcknowledge), (*session).shareAcknowledge) }

func (s *session) shareAcknowledge(h protocol.RequestHeader, frame []byte) Decision {
	if d, refused := s.refuseShare(h, frame); refused {
		return d
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		out, err := protocol.RewriteShareAcknowledge(frame, h, s)
		if err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: out}
	}}
}
