package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: v0-2
//
// Behavior: brokers get their addresses at klink. A broker without a listener at klink is left out.
func init() { register(int16(kmsg.DescribeCluster), (*session).describeCluster) }

func (s *session) describeCluster(h protocol.RequestHeader, frame []byte) Decision {
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		brokers := s.view()
		return s.rewriteAddresses(h, func(bool) ([]byte, bool, error) {
			return protocol.RewriteDescribeCluster(frame, h, brokers)
		})
	}}
}
