package router

import (
	"bytes"
	"math"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A look into a log uses klink's own credentials, so it is made only for a client that may do to
// the topic what its request needs anyway: READ for Fetch, DELETE for DeleteRecords. Where the
// broker's answer comes first it tells; where the request has to be translated before it is sent,
// the broker is asked first, on the client's own connection.

const (
	// rightsFor is how long the answer of the broker counts. Only looks depend on it: the broker
	// itself decides on the request.
	rightsFor = 5 * time.Second
	// maxAskedRights bounds the topics of one question.
	maxAskedRights = 256
	// maxRights bounds the topics that are remembered for one connection.
	maxRights = 1024
)

// right is what a client may do to a topic: a bit for each operation (KIP-430).
type right struct {
	operations int32
	until      time.Time
}

// may tells whether the client may do an operation to a topic; known is false if the broker has to
// be asked.
func (s *session) may(topic string, operation kmsg.ACLOperation) (granted, known bool) {
	r, ok := s.rights[topic]
	if !ok || !s.router.desk.now().Before(r.until) {
		return false, false
	}
	return r.operations&(1<<operation) != 0, true
}

// permitted gives those of list that klink may look for, and those that it may not. unasked are
// topics of which the broker has to say first what the client may do to them. It is asked once for
// a request: of what is left then nothing is looked for, and the client asks again.
func (s *session) permitted(list []probe, operation kmsg.ACLOperation) (permitted, refused []probe, unasked []string) {
	last := ""
	for _, p := range list {
		granted, known := s.may(p.topic, operation)
		switch {
		case granted:
			permitted = append(permitted, p)
			continue
		case !known && p.topic != last && len(unasked) < maxAskedRights:
			last = p.topic
			unasked = append(unasked, p.topic)
		}
		refused = append(refused, p)
	}
	return permitted, refused, unasked
}

// askRights asks the broker what the client may do to topics, in the place of the request, and
// decides on the request once that was answered. frame has not been changed.
//
// It asks with Metadata v8, as authorize does. A topic that the client may not even describe has an
// error and no operations. Kafka tells the operations from 2.3 on. A broker of another make that
// does not is taken at its word that the client may describe the topic: else nobody could read a
// mirror with holes there, and looks are bounded anyway.
func (s *session) askRights(h protocol.RequestHeader, frame []byte, topics []string) Decision {
	s.asked = true
	h, frame = ownHeader(h), bytes.Clone(frame)
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	req.IncludeTopicAuthorizedOperations = true
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
	}
	asked := protocol.RequestHeader{Key: req.Key(), Version: req.Version}
	return Decision{
		Action:    Forward,
		Frame:     protocol.AppendRequest(nil, h, req),
		Exclusive: true,
		Whole: func(response []byte) Decision {
			if err := s.noteRights(asked, response, topics); err != nil {
				return closeResponse(h, err)
			}
			return s.again(h, frame)
		},
	}
}

// noteRights notes what a Metadata response says of topics. What it does not say is refused.
func (s *session) noteRights(asked protocol.RequestHeader, response []byte, topics []string) error {
	if s.rights == nil || len(s.rights)+len(topics) > maxRights {
		s.rights = make(map[string]right, len(topics))
	}
	until := s.router.desk.now().Add(rightsFor)
	for _, topic := range topics {
		s.rights[topic] = right{until: until}
	}
	return protocol.TopicOperations(response, asked, func(topic []byte, operations int32) {
		if operations == math.MinInt32 {
			operations = -1 // all
		}
		if _, ok := s.rights[string(topic)]; ok {
			s.rights[string(topic)] = right{operations, until}
		}
	})
}
