package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: v0-5
//
// Behavior: the list holds what both the broker and klink support, and klink's link APIs unless
// they are switched off. klink forwards a version that it does not know too, so that the broker
// answers UNSUPPORTED_VERSION in the way its clients expect (KIP-511).
func init() { register(int16(kmsg.ApiVersions), (*session).apiVersions) }

func (s *session) apiVersions(h protocol.RequestHeader, frame []byte) Decision {
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		out, err := protocol.RewriteApiVersions(frame, h, s.router.linkAdmin != LinkAdminOff)
		if err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: out}
	}}
}
