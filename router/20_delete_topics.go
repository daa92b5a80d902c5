package router

import (
	"context"
	"fmt"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics: v0-6
//
// Behavior:
//   - Clients may delete mirrors if the broker allows it. The control plane ends the mirror before
//     klink answers the client, so that a topic created afterwards under the name is an ordinary
//     one.
//   - If the broker does not know the topic of a mirror (it was deleted around klink, or klink
//     stopped between the two halves), a client with ALTER on the cluster ends the mirror, and is
//     told that the deletion succeeded.
//   - klink's own topics are refused, by name and by id. klink first looks up an id that it does
//     not know yet.
//
// Version notes:
//   - v1: throttle time
//   - v5: error messages
//   - v6: topics by id
func init() { registerControl(int16(kmsg.DeleteTopics), handleDeleteTopics) }

// deletedTopic names a topic as the request does: by name, or by id.
type deletedTopic struct {
	name string
	id   [16]byte
}

type deleteTopics struct {
	s      *session
	h      protocol.RequestHeader
	before *Snapshot // the snapshot when the request came
	order  []deletedTopic
	ours   map[deletedTopic]kmsg.DeleteTopicsResponseTopic
	rest   *kmsg.DeleteTopicsRequest
}

func handleDeleteTopics(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrDeleteTopicsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	if unknown := s.unknownIDs(req); len(unknown) > 0 {
		if len(unknown) > maxUnknownIDs {
			return closing(fmt.Errorf("DeleteTopics: %d unknown topic ids in one request; at most %d are looked up", len(unknown), maxUnknownIDs))
		}
		if s.parked > maxDeleteParked {
			return closing(fmt.Errorf("DeleteTopics: could not find %d topic ids, %x among them; try again", len(unknown), unknown[0]))
		}
		return s.learnTopics(unknown, closing)
	}
	c := deleteTopics{s: s, h: ownHeader(h), before: s.snapshot(), ours: make(map[deletedTopic]kmsg.DeleteTopicsResponseTopic)}
	touched := c.sort(req)
	if !touched {
		return Decision{Action: Forward, Frame: frame, Exclusive: true}
	}
	if len(c.rest.TopicNames) == 0 && len(c.rest.Topics) == 0 {
		return c.answer(c.rest.ResponseKind().(*kmsg.DeleteTopicsResponse))
	}
	return ask(c.h, c.rest, func(resp kmsg.Response) Decision { return c.deleted(resp.(*kmsg.DeleteTopicsResponse)) })
}

// maxDeleteParked bounds the look-ups of topic ids for one request. More than one can be needed:
// the request may have waited for the mirrors first, and the Directory may forget an id between its
// look-up and the retry.
const maxDeleteParked = 3

// maxUnknownIDs bounds the topic ids that klink looks up for one request.
const maxUnknownIDs = 10_000

// unknownIDs returns the topic ids of the request that the Directory does not know.
func (s *session) unknownIDs(req *kmsg.DeleteTopicsRequest) [][16]byte {
	var unknown [][16]byte
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.Topic != nil || t.TopicID == [16]byte{} { // the broker reports an error for neither
			continue
		}
		if _, ok := s.router.directory.Topic(t.TopicID); !ok {
			unknown = append(unknown, t.TopicID)
		}
	}
	return unknown
}

// sort refuses topics that must not be deleted. touched is false if klink need not look at the
// broker's response either.
func (c *deleteTopics) sort(req *kmsg.DeleteTopicsRequest) (touched bool) {
	rest := *req
	rest.TopicNames, rest.Topics = nil, nil
	keep := func(key deletedTopic, name string) bool {
		c.order = append(c.order, key)
		switch {
		case isInternal(name):
			c.refuse(key, refuseInternal(name))
		case name == "" && key.id != [16]byte{} && c.mirrorByID(key.id) == "":
			// The Directory knows that the id does not exist, or no longer exists.
			c.refuse(key, refuse(kerr.UnknownTopicID, "This server does not host this topic ID."))
		default:
			touched = touched || c.before.Mirrors[name] != nil || name == ""
			return true
		}
		touched = true
		return false
	}
	for _, name := range req.TopicNames {
		if keep(deletedTopic{name: name}, name) {
			rest.TopicNames = append(rest.TopicNames, name)
		}
	}
	for _, t := range req.Topics {
		key, name := deletedTopic{id: t.TopicID}, ""
		if t.Topic != nil {
			key, name = deletedTopic{name: *t.Topic}, *t.Topic
		} else {
			name, _ = c.s.router.directory.Topic(t.TopicID)
		}
		if keep(key, name) {
			rest.Topics = append(rest.Topics, t)
		}
	}
	c.rest = &rest
	return touched
}

// mirrorByID returns the name of the mirror whose topic has this id, or "".
func (c *deleteTopics) mirrorByID(id [16]byte) string {
	if m := c.s.snapshot().byID[id]; m != nil {
		return m.Topic
	}
	return ""
}

func (c *deleteTopics) refuse(key deletedTopic, v verdict) {
	t := kmsg.NewDeleteTopicsResponseTopic()
	t.TopicID, t.ErrorCode, t.ErrorMessage = key.id, v.code, v.message
	if key.name != "" {
		t.Topic = &key.name
	}
	c.ours[key] = t
}

// deleted looks for mirrors in the broker's response.
func (c *deleteTopics) deleted(resp *kmsg.DeleteTopicsResponse) Decision {
	snapshot := c.s.snapshot()
	var ended, missing []endedMirror
	for i := range resp.Topics {
		t := &resp.Topics[i]
		m := snapshot.Mirrors[c.name(t)]
		switch {
		case m == nil:
		case t.ErrorCode == 0:
			if c.meant(m, t.TopicID) {
				ended = append(ended, endedMirror{t, m})
			}
		case t.ErrorCode == kerr.UnknownTopicOrPartition.Code, t.ErrorCode == kerr.UnknownTopicID.Code:
			// While the mirror's id is not known, its topic is about to be created, so it is
			// rightly missing. And an id other than the mirror's belongs to an earlier topic of the
			// same name.
			if m.TopicID != [16]byte{} && (t.TopicID == [16]byte{} || t.TopicID == m.TopicID) {
				missing = append(missing, endedMirror{t, m})
			}
		}
	}
	switch {
	case len(missing) > 0:
		return c.s.admit(c.h, kmsg.ACLOperationAlter, func(refusal *verdict) Decision {
			if refusal == nil {
				ended = append(ended, missing...)
			}
			return c.end(resp, ended)
		})
	default:
		return c.end(resp, ended)
	}
}

// endedMirror is a mirror whose topic the client has deleted, and the broker's result for it.
type endedMirror struct {
	result *kmsg.DeleteTopicsResponseTopic
	mirror *Mirror
}

// meant reports whether m is the mirror that the client has deleted. That is the mirror that
// existed when the request came, even if its topic was replaced around klink since, or the mirror
// with the id that the broker has deleted. It is not a mirror that was created while the request
// was under way.
func (c *deleteTopics) meant(m *Mirror, deleted [16]byte) bool {
	zero := [16]byte{}
	if was := c.before.Mirrors[m.Topic]; was != nil && was.ID == m.ID && (was.TopicID == zero || was.TopicID == m.TopicID) {
		return true
	}
	return m.TopicID != zero && m.TopicID == deleted
}

// name returns the name of the topic in a result. The snapshot comes first, because it holds the
// ids of mirrors that the Directory may have forgotten.
func (c *deleteTopics) name(t *kmsg.DeleteTopicsResponseTopic) string {
	if name := c.mirrorByID(t.TopicID); name != "" {
		return name
	}
	if t.Topic != nil {
		return *t.Topic
	}
	name, _ := c.s.router.directory.Topic(t.TopicID)
	return name
}

// end ends the mirrors of deleted topics and answers.
func (c *deleteTopics) end(resp *kmsg.DeleteTopicsResponse, ended []endedMirror) Decision {
	if len(ended) == 0 {
		return c.answer(resp)
	}
	mirrors := make([]DeletedMirror, len(ended))
	for i, e := range ended {
		mirrors[i] = DeletedMirror{Topic: e.mirror.Topic, ID: e.mirror.ID}
	}
	return Decision{Action: Run, Exclusive: true, Run: func(ctx context.Context) Decision {
		err := c.s.router.control.TopicsDeleted(ctx, mirrors)
		for _, e := range ended {
			t := e.result
			t.ErrorCode, t.ErrorMessage = 0, nil
			if err != nil {
				v := refuse(kerr.UnknownServerError, "Topic '%s' was deleted, but its mirror could not be removed; delete it again: %v", e.mirror.Topic, err)
				t.ErrorCode, t.ErrorMessage = v.code, v.message
			}
		}
		return c.answer(resp)
	}}
}

func (c *deleteTopics) answer(resp *kmsg.DeleteTopicsResponse) Decision {
	asked := make(map[deletedTopic]bool, len(c.order))
	for _, key := range c.order {
		asked[key] = true
	}
	resp.Topics = merge(c.order, c.ours, resp.Topics, func(t *kmsg.DeleteTopicsResponseTopic) deletedTopic {
		// The response has both name and id (v6); the request had one of them.
		if key := (deletedTopic{id: t.TopicID}); asked[key] {
			return key
		}
		if t.Topic == nil {
			return deletedTopic{id: t.TopicID}
		}
		return deletedTopic{name: *t.Topic}
	})
	return answer(c.h, resp)
}
