package router

import (
	"context"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file keeps Metadata requests from creating topics that clients may not create: a topic with
// the name of a mirror that is recorded but does not exist yet would be taken for the mirror.
//
// The flag that allows creation is about all topics of a request. So klink asks without it, and has
// the broker create the other topics that are missing with a second request. The client gets the
// first answer. It says of a missing topic what a broker says that has just begun to create it:
// UNKNOWN_TOPIC_OR_PARTITION, which clients ask about again.

// mayCreate says whether clients may create a topic of this name. While the mirrors are not known,
// or may be others by now, no name is safe.
func (r *Router) mayCreate(sn *Snapshot, topic string) bool {
	return sn.Complete && r.lease.Fresh() && !isInternal(topic) && sn.readOnlyMirror(topic) == nil
}

// createsGuarded says whether a Metadata request may create a topic that clients may not create.
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

// metadataWithoutCreation asks for what a request asks, without creating what is missing and may
// not be created.
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
	req.Version, req.AllowAutoTopicCreation = max(h.Version, 4), false // the first version with the flag
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
			return Decision{Action: Run, Run: func(context.Context) Decision { return done(nil) }} // it may be large
		})
	})
}

// missingToCreate are the topics that do not exist, and that clients may create.
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
