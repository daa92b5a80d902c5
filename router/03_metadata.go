package router

import "klink/protocol"

// Metadata: v0-13
//
// Behavior:
//   - Brokers get their addresses at klink. klink remembers the topic ids that pass (v10 and
//     later), so that it seldom has to look them up for a produce or fetch by id.
//   - A request may make the broker create the topics that it names (auto.create.topics.enable). It
//     must not create a topic of klink's own, or one with the name of a mirror that is recorded and
//     not created yet. See metadata_create.go.
//
// Version notes: before v4 a request always allows creation.
func init() { register(3, (*session).metadata) }

func (s *session) metadata(h protocol.RequestHeader, frame []byte) Decision {
	guarded, err := s.createsGuarded(h, frame)
	switch {
	case err != nil:
		return closeMalformed(h, err)
	case guarded:
		return s.metadataWithoutCreation(h, frame)
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision { return s.rewriteMetadata(h, frame) }}
}

// rewriteMetadata answers with a Metadata response of the broker.
func (s *session) rewriteMetadata(h protocol.RequestHeader, frame []byte) Decision {
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
}
