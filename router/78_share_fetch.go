package router

import (
	"fmt"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareFetch: v0-2
//
// Behavior: node endpoints get their addresses at klink. Requests with a mirror, even a stopped
// one, are refused: klink does not translate the offsets in acquired and acknowledged ranges, or
// those that brokers keep for a share group. This is the second line of defence:
// ShareGroupHeartbeat reports the error where clients notice it. Requests with a topic of klink's
// own are refused too, because its records hold secrets.
func init() { register(int16(kmsg.ShareFetch), (*session).shareFetch) }

func (s *session) shareFetch(h protocol.RequestHeader, frame []byte) Decision {
	if d, refused := s.refuseShare(h, frame); refused {
		return d
	}
	asked := s.coordinates()
	asked.deny = true
	stream := &protocol.ShareFetchResponse{}
	stream.Reset(h.Version, &asked)
	return Decision{Action: Forward, Frame: frame, Stream: stream}
}

// refuseShare decides on ShareFetch and ShareAcknowledge requests that klink does not forward, or
// not yet.
func (s *session) refuseShare(h protocol.RequestHeader, frame []byte) (d Decision, refused bool) {
	sn := s.snapshot()
	if !sn.Complete {
		return s.awaitMirrorsOrClose(), true
	}
	var missing [][16]byte
	var mirror *Mirror
	var internal string
	err := protocol.ShareRequestTopics(frame, h, func(id [16]byte) {
		topic, known := s.topicName(sn, nil, id)
		if !known && len(missing) <= maxUnknownIDs {
			missing = append(missing, id)
		}
		if m := sn.Mirrors[topic]; m != nil {
			mirror = m
		}
		if isInternal(topic) {
			internal = topic
		}
	})
	switch {
	case err != nil:
		return closeMalformed(h, err), true
	case internal != "":
		message := fmt.Sprintf("Topic '%s' belongs to klink and cannot be read by clients", internal)
		return Decision{Action: Answer, Frame: protocol.AppendShareError(nil, h, kerr.TopicAuthorizationFailed.Code, message)}, true
	case mirror != nil:
		v := refuseShareOf(mirror.Topic)
		return Decision{Action: Answer, Frame: protocol.AppendShareError(nil, h, v.code, *v.message)}, true
	case missing != nil && s.parked == 0:
		return s.learnTopics(missing, func(err error) Decision { return Decision{Action: Close, Err: err} }), true
	}
	return Decision{}, false
}
