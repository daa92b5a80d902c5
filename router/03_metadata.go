package router

import (
	"context"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata: v0-13
//
// Behavior:
//   - Brokers get their addresses at klink. klink remembers the topic ids that pass (v10 and
//     later), so that it seldom has to look them up for a produce or fetch by id.
//   - A request may make the broker create the topics that it names (auto.create.topics.enable). It
//     must not create a topic of klink's own, or one with the name of a mirror that is recorded and
//     not created yet.
//
// Version notes: before v4 a request always allows creation.
func init() { register(int16(kmsg.Metadata), (*session).metadata) }

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
	directory, brokers := &s.router.directory, s.view()
	return s.rewriteAddresses(h, func(hide bool) ([]byte, bool, error) {
		var learned map[[16]byte]string
		out, unknown, err := protocol.RewriteMetadata(frame, h, brokers, hide, func(id [16]byte, name []byte) {
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

// What follows keeps Metadata requests from creating topics that clients may not create: a topic
// with the name of a mirror that is recorded but not created yet would be taken for the mirror.
//
// The flag that allows creation applies to all topics of a request. So klink asks without the flag,
// and sends a second request that creates the other missing topics. The client gets the first
// answer. For a missing topic it has UNKNOWN_TOPIC_OR_PARTITION, like the answer of a broker that
// has just begun to create the topic, and clients ask again.

// mayCreate reports whether clients may create a topic of this name. While klink does not know the
// current mirrors, they may create none.
func (r *Router) mayCreate(sn *Snapshot, topic string) bool {
	return sn.Complete && r.lease.Fresh() && !isInternal(topic) && sn.readOnlyMirror(topic) == nil
}

// createsGuarded reports whether a Metadata request could create a topic that clients may not
// create.
func (s *session) createsGuarded(h protocol.RequestHeader, frame []byte) (bool, error) {
	sn := s.snapshot()
	guarded := false
	m := protocol.ReadMetadataRequest(frame, h)
	for m.Topic() {
		if m.Name != nil && !guarded {
			name, _ := s.topicName(sn, m.Name, [16]byte{})
			guarded = !s.router.mayCreate(sn, name)
		}
	}
	return guarded && m.Creates(), m.Err()
}

// metadataWithoutCreation carries out a request, but does not create missing topics that clients
// may not create.
func (s *session) metadataWithoutCreation(h protocol.RequestHeader, frame []byte) Decision {
	if len(frame) >= largeControl {
		return Decision{Action: Run, Exclusive: true, Run: func(context.Context) Decision { return s.askWithoutCreation(h, frame) }}
	}
	return s.askWithoutCreation(h, frame)
}

func (s *session) askWithoutCreation(h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrMetadataRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	h = ownHeader(h)
	req.Version, req.AllowAutoTopicCreation = max(h.Version, 4), false // v4 has the flag
	return ask(h, req, func(r kmsg.Response) Decision {
		resp := r.(*kmsg.MetadataResponse)
		missing := s.missingToCreate(resp)
		resp.SetVersion(h.Version)
		done := func(kmsg.Response) Decision { return s.rewriteMetadata(h, protocol.AppendResponse(nil, h, resp)) }
		if len(missing) == 0 {
			return done(nil)
		}
		create := kmsg.NewPtrMetadataRequest()
		create.Version, create.Topics, create.AllowAutoTopicCreation = req.Version, missing, true
		return ask(h, create, func(kmsg.Response) Decision {
			// The rewriting of a large response would hold up the event loop.
			return Decision{Action: Run, Run: func(context.Context) Decision { return done(nil) }}
		})
	})
}

// missingToCreate returns the missing topics that clients may create.
func (s *session) missingToCreate(resp *kmsg.MetadataResponse) (missing []kmsg.MetadataRequestTopic) {
	sn := s.snapshot()
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.ErrorCode == kerr.UnknownTopicOrPartition.Code && t.Topic != nil && s.router.mayCreate(sn, *t.Topic) {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = t.Topic
			missing = append(missing, topic)
		}
	}
	return missing
}
