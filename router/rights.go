package router

import (
	"bytes"
	"math"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A look into a log uses klink's own credentials. So klink looks only for a client that holds the
// right which its request needs anyway: READ on the topic for Fetch, DELETE for DeleteRecords. If
// klink looks after the broker's answer, that answer shows the right. If klink must translate the
// request before sending it, it asks the broker first, on the client's own connection.

const (
	// rightsFor is how long an answer of the broker about rights is valid. Only looks depend on it:
	// the broker itself decides on the request.
	rightsFor = 5 * time.Second
	// maxAskedRights bounds the topics of one Metadata request for rights.
	maxAskedRights = 256
	// maxRights bounds the topics whose rights are remembered for one connection.
	maxRights = 1024
)

// right is what a client may do to a topic: a bit for each operation (KIP-430).
type right struct {
	operations int32
	until      time.Time
}

// may reports whether the client may perform an operation on a topic. known is false if klink must
// ask the broker.
func (s *session) may(topic string, operation kmsg.ACLOperation) (granted, known bool) {
	r, ok := s.rights[topic]
	if !ok || !s.router.desk.now().Before(r.until) {
		return false, false
	}
	return r.operations&(1<<operation) != 0, true
}

// permitted splits list into the probes that klink may look for and those that it may not. unasked
// are topics for which klink must first ask the broker about the client's rights. klink asks once
// per request: afterwards it does not look for probes whose rights are still unknown, and the
// client asks again.
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

// askRights asks the broker what the client may do to topics, in place of the request, and decides
// on the request once it has the answer. frame must be unchanged.
//
// It asks with Metadata v8, as authorize does. A topic that the client may not even describe has an
// error and no operations. Kafka reports the operations from 2.3 on. Another make of broker may not
// report them. Then klink relies on the fact that the client may describe the topic: otherwise
// nobody could read a mirror with holes there, and looks are bounded anyway.
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

// noteRights records the rights that a Metadata response reports for topics. A topic without an
// entry there is refused.
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
