package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum: v0-2
//
// Behavior: controllers that are brokers too get their addresses at klink (v2).
func init() { register(int16(kmsg.DescribeQuorum), (*session).describeQuorum) }

func (s *session) describeQuorum(h protocol.RequestHeader, frame []byte) Decision {
	d := Decision{Action: Forward, Frame: frame}
	if h = kept(h); h.Version >= 2 {
		d.Whole = func(frame []byte) Decision {
			out, err := protocol.RewriteDescribeQuorum(frame, h, s)
			if err != nil {
				return closeResponse(h, err)
			}
			return Decision{Action: Answer, Frame: out}
		}
	}
	return d
}
