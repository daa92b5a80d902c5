package router

import (
	"context"
	"slices"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics: v0-7
//
// Behavior:
//   - The control plane creates a topic with the config mirror.link (and mirror.source.topic) as a
//     mirror. The client needs ALTER on the cluster.
//   - The broker creates topics without mirror.* configs, even if the request also has mirrors.
//   - Names of klink's own topics and of read-only mirrors are refused.
//
// Version notes:
//   - v1: validate only, error messages
//   - v5: partitions, replication factor and configs in the response
//   - v7: topic ids in the response
func init() { registerControl(int16(kmsg.CreateTopics), handleCreateTopics) }

// createTopics is a CreateTopics request, split into the parts of klink and of the broker.
type createTopics struct {
	s       *session
	h       protocol.RequestHeader
	order   []string
	ours    map[string]kmsg.CreateTopicsResponseTopic
	mirrors []MirrorSpec
	rest    *kmsg.CreateTopicsRequest // the broker's part
}

func handleCreateTopics(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrCreateTopicsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	c := createTopics{s: s, ours: make(map[string]kmsg.CreateTopicsResponseTopic)}
	c.sort(req)
	if len(c.mirrors) == 0 && len(c.ours) == 0 {
		return Decision{Action: Forward, Frame: frame}
	}
	c.h = ownHeader(h)
	if len(c.mirrors) == 0 {
		return c.forward()
	}
	return s.admit(c.h, kmsg.ACLOperationAlter, func(refusal *verdict) Decision {
		if refusal != nil {
			for i := range c.mirrors {
				c.note(c.mirrors[i].Topic, *refusal)
			}
			return c.forward()
		}
		return Decision{Action: Run, Exclusive: true, Run: func(ctx context.Context) Decision {
			for i := range c.mirrors {
				c.create(ctx, c.mirrors[i])
			}
			return c.forward()
		}}
	})
}

// sort splits the topics into refused ones, mirrors and the rest.
func (c *createTopics) sort(req *kmsg.CreateTopicsRequest) {
	times := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	rest := *req
	rest.Topics = nil
	snapshot := c.s.snapshot()
	for i := range req.Topics {
		t := &req.Topics[i]
		c.order = append(c.order, t.Topic)
		spec, v := mirrorSpec(t, req.ValidateOnly)
		switch m := snapshot.Mirrors[t.Topic]; {
		case isInternal(t.Topic):
			c.note(t.Topic, refuseInternal(t.Topic))
		case v != nil:
			c.note(t.Topic, *v)
		case spec != nil && times[t.Topic] > 1:
			c.note(t.Topic, refuse(kerr.InvalidRequest, "Topic '%s' is in the request more than once", t.Topic))
		case spec != nil:
			c.mirrors = append(c.mirrors, *spec)
		case m != nil && m.ReadOnly:
			// If the topic exists, the broker would answer the same. It may not exist: the control
			// plane is creating it, or it was deleted around klink. Then a topic that a client
			// creates could be taken for the mirror.
			c.note(t.Topic, refuse(kerr.TopicAlreadyExists, "Topic '%s' is a mirror of link '%s'; delete it first", t.Topic, m.Link))
		default:
			rest.Topics = append(rest.Topics, *t)
		}
	}
	// If a name is refused once, all its entries in the request are refused.
	rest.Topics = slices.DeleteFunc(rest.Topics, func(t kmsg.CreateTopicsRequestTopic) bool {
		_, refused := c.ours[t.Topic]
		return refused
	})
	c.rest = &rest
}

// mirrorSpec reads the mirror.* configs of a topic. It returns a spec if the topic is to become a
// mirror, a refusal if the configs are wrong, and neither if there are none.
func mirrorSpec(t *kmsg.CreateTopicsRequestTopic, validateOnly bool) (*MirrorSpec, *verdict) {
	var mirror mirrorConfigs
	configs := make(map[string]*string)
	for i := range t.Configs {
		if c := &t.Configs[i]; !mirror.set(c.Name, c.Value) {
			configs[c.Name] = c.Value
		}
	}
	if !mirror.seen {
		return nil, nil
	}
	fault := func(code *kerr.Error, format string, args ...any) (*MirrorSpec, *verdict) {
		v := refuse(code, format, args...)
		return nil, &v
	}
	if v := mirror.check(); v != nil {
		return nil, v
	}
	switch {
	case mirror.link == nil: // so mirror.state alone
		return fault(kerr.InvalidConfig, "Config %s cannot be set on a new topic: create the mirror with %s", configState, configLink)
	case len(t.ReplicaAssignment) > 0:
		return fault(kerr.InvalidRequest, "Mirror topic '%s' cannot be created with a replica assignment: give a replication factor or none", t.Topic)
	case t.NumPartitions == 0 || t.NumPartitions < -1:
		return fault(kerr.InvalidPartitions, "Number of partitions of mirror topic '%s' must be that of its source, or -1 to use that of its source", t.Topic)
	case t.ReplicationFactor == 0 || t.ReplicationFactor < -1:
		return fault(kerr.InvalidReplicationFactor, "Replication factor of mirror topic '%s' must be larger than 0, or -1 for the default", t.Topic)
	}
	return &MirrorSpec{
		Topic: t.Topic, Link: *mirror.link, SourceTopic: mirror.source(),
		NumPartitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
		Configs: configs, ValidateOnly: validateOnly,
	}, nil
}

// note stores klink's result for a topic.
func (c *createTopics) note(topic string, v verdict) {
	t := kmsg.NewCreateTopicsResponseTopic()
	t.Topic, t.ErrorCode, t.ErrorMessage = topic, v.code, v.message
	c.ours[topic] = t
}

// create asks the control plane to create a mirror, and stores the result. It is called off the
// event loop.
func (c *createTopics) create(ctx context.Context, spec MirrorSpec) {
	v := verdictOf(c.s.router.control.CreateMirror(ctx, spec))
	c.note(spec.Topic, v)
	if !v.ok() {
		return
	}
	t := c.ours[spec.Topic]
	t.NumPartitions, t.ReplicationFactor = spec.NumPartitions, spec.ReplicationFactor
	// The Java client expects configs if there is a partition count, and reads -1 as "this broker
	// does not tell".
	t.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	if m := c.s.snapshot().Mirrors[spec.Topic]; m != nil && !spec.ValidateOnly {
		t.TopicID = m.TopicID
		if len(m.Timelines) > 0 {
			t.NumPartitions = int32(len(m.Timelines))
		}
	}
	c.ours[spec.Topic] = t
}

// forward sends the rest to the broker, if there is any, and answers.
func (c *createTopics) forward() Decision {
	resp := c.rest.ResponseKind().(*kmsg.CreateTopicsResponse)
	if len(c.rest.Topics) == 0 {
		return c.answer(resp)
	}
	return ask(c.h, c.rest, func(resp kmsg.Response) Decision { return c.answer(resp.(*kmsg.CreateTopicsResponse)) })
}

func (c *createTopics) answer(resp *kmsg.CreateTopicsResponse) Decision {
	resp.Topics = merge(c.order, c.ours, resp.Topics, func(t *kmsg.CreateTopicsResponseTopic) string { return t.Topic })
	return answer(c.h, resp)
}
