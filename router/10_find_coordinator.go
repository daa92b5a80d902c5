package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator: v0-6
//
// Behavior: coordinators get their addresses at klink. A coordinator without a listener at klink is
// answered COORDINATOR_NOT_AVAILABLE.
func init() { register(int16(kmsg.FindCoordinator), (*session).findCoordinator) }

func (s *session) findCoordinator(h protocol.RequestHeader, frame []byte) Decision {
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		brokers := s.view()
		return s.rewriteAddresses(h, func(hide bool) ([]byte, bool, error) {
			return protocol.RewriteFindCoordinator(frame, h, brokers, hide)
		})
	}}
}
