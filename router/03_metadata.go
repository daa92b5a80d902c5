package router

import "klink/protocol"

// Metadata: v0-13
//
// Behavior: brokers get their addresses at klink. Topic ids that pass (v10 and later) are remembered, so that a produce or
// fetch by id seldom has to look them up.
func init() { register(3, (*session).metadata) }

func (s *session) metadata(h protocol.RequestHeader, frame []byte) Decision {
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		directory := &s.router.directory
		return s.rewriteAddresses(h, func(hide bool) ([]byte, bool, error) {
			var learned map[[16]byte]string
			out, unknown, err := protocol.RewriteMetadata(frame, h, directory, hide, func(id [16]byte, name []byte) {
				if known, _ := directory.Topic(id); known != "" {
					return
				}
				if learned == nil {
					learned = map[[16]byte]string{}
				}
				learned[id] = string(name)
			})
			if err == nil && learned != nil {
				directory.AddTopics(learned)
			}
			return out, unknown, err
		})
	}}
}
