package router

import (
	"context"
	"slices"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs: v0-1
//
// Behavior:
//   - Setting mirror.link (and mirror.source.topic) turns an empty topic into a mirror; setting
//     mirror.state pauses, resumes, promotes or fails over a mirror. Both need ALTER on the
//     cluster. mirror.* configs accept only the operation SET.
//   - The other configs of such a topic go to the broker once klink's part has succeeded. Other
//     resources of the request go to the broker unchanged.
//   - A config of a read-only mirror that follows its source is refused, and with it the whole
//     resource, because brokers alter all configs of a resource or none.
func init() { registerControl(int16(kmsg.IncrementalAlterConfigs), handleIncrementalAlterConfigs) }

// alterConfigs is an IncrementalAlterConfigs request, split into the parts of klink and of the
// broker.
type alterConfigs struct {
	s     *session
	h     protocol.RequestHeader
	order []configResource
	ours  map[configResource]kmsg.IncrementalAlterConfigsResponseResource
	acts  []mirrorAct
	rest  *kmsg.IncrementalAlterConfigsRequest // the broker's part
}

// mirrorAct is what klink has to do for one topic, and what it leaves to the broker afterwards.
type mirrorAct struct {
	topic   string
	configs mirrorConfigs
	rest    kmsg.IncrementalAlterConfigsRequestResource // Configs may be empty
}

func handleIncrementalAlterConfigs(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	c := alterConfigs{s: s, ours: make(map[configResource]kmsg.IncrementalAlterConfigsResponseResource)}
	c.sort(req)
	if len(c.acts) == 0 && len(c.ours) == 0 {
		return Decision{Action: Forward, Frame: frame}
	}
	c.h = ownHeader(h)
	if len(c.acts) == 0 {
		return c.forward()
	}
	return s.admit(c.h, kmsg.ACLOperationAlter, func(refusal *verdict) Decision {
		if refusal != nil {
			for i := range c.acts {
				c.note(c.acts[i].topic, *refusal)
			}
			return c.forward()
		}
		return Decision{Action: Run, Exclusive: true, Run: func(ctx context.Context) Decision {
			for i := range c.acts {
				c.act(ctx, &c.acts[i])
			}
			return c.forward()
		}}
	})
}

// sort splits the resources into refused ones, acts of klink and the rest.
func (c *alterConfigs) sort(req *kmsg.IncrementalAlterConfigsRequest) {
	rest := *req
	rest.Resources = nil
	c.rest = &rest
	snapshot := c.s.snapshot()
	times := make(map[configResource]int, len(req.Resources))
	for i := range req.Resources {
		times[configResource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		r := &req.Resources[i]
		key := configResource{r.ResourceType, r.ResourceName}
		c.order = append(c.order, key)
		topic := key.topic()
		m := snapshot.readOnlyMirror(topic)
		act := sortConfigs(topic, r)
		switch {
		case topic == "" || m == nil && !act.configs.seen && !isInternal(topic):
			rest.Resources = append(rest.Resources, *r)
		case isInternal(topic):
			c.note(topic, refuseInternal(topic))
		case times[key] > 1: // a broker refuses this too, but only after klink has done its part
			c.note(topic, refuse(kerr.InvalidRequest, "Topic '%s' is in the request more than once", topic))
		default:
			if v := act.configs.check(); v != nil {
				c.note(topic, *v)
			} else if v := refuseSynced(m, configNames(&act.rest)); v != nil {
				c.note(topic, *v)
			} else if act.configs.seen {
				c.acts = append(c.acts, act)
			} else {
				rest.Resources = append(rest.Resources, *r)
			}
		}
	}
	// If a topic is refused once, all its entries in the request are refused.
	rest.Resources = slices.DeleteFunc(rest.Resources, func(r kmsg.IncrementalAlterConfigsRequestResource) bool {
		_, refused := c.ours[configResource{r.ResourceType, r.ResourceName}]
		return refused
	})
}

// sortConfigs splits the configs of a topic into klink's and the broker's.
func sortConfigs(topic string, r *kmsg.IncrementalAlterConfigsRequestResource) mirrorAct {
	act := mirrorAct{topic: topic, rest: *r}
	act.rest.Configs = nil
	for i := range r.Configs {
		c := &r.Configs[i]
		if topic == "" || !isMirrorConfig(c.Name) {
			act.rest.Configs = append(act.rest.Configs, *c)
			continue
		}
		if c.Op != kmsg.IncrementalAlterConfigOpSet {
			act.configs.fail(refuse(kerr.InvalidConfig, "Config %s of topic '%s' can only be set; to end mirroring set %s to STOPPED", c.Name, topic, configState))
		}
		act.configs.set(c.Name, c.Value)
	}
	return act
}

func configNames(r *kmsg.IncrementalAlterConfigsRequestResource) []string {
	names := make([]string, len(r.Configs))
	for i := range r.Configs {
		names[i] = r.Configs[i].Name
	}
	return names
}

// note stores klink's result for a topic.
func (c *alterConfigs) note(topic string, v verdict) {
	r := kmsg.NewIncrementalAlterConfigsResponseResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	r.ErrorCode, r.ErrorMessage = v.code, v.message
	c.ours[configResource{kmsg.ConfigResourceTypeTopic, topic}] = r
}

// act does klink's part for a topic and leaves the rest to the broker. It is called off the event
// loop.
func (c *alterConfigs) act(ctx context.Context, a *mirrorAct) {
	var err *protocol.Error
	if a.configs.link != nil {
		err = c.s.router.control.CreateMirror(ctx, MirrorSpec{
			Topic: a.topic, Link: *a.configs.link, SourceTopic: a.configs.source(),
			NumPartitions: -1, ReplicationFactor: -1,
			Convert: true, ValidateOnly: c.rest.ValidateOnly,
		})
	} else {
		err = c.s.router.control.SetMirrorState(ctx, a.topic, *a.configs.state, c.rest.ValidateOnly)
	}
	v := verdictOf(err)
	if v.ok() && len(a.rest.Configs) > 0 {
		// The topic may have become a mirror just now.
		synced := refuseSynced(c.s.snapshot().readOnlyMirror(a.topic), configNames(&a.rest))
		if synced == nil {
			c.rest.Resources = append(c.rest.Resources, a.rest)
			return
		}
		v = refuse(kerr.InvalidRequest, "The mirror configs were altered, the other configs were not: %s", *synced.message)
	}
	c.note(a.topic, v)
}

// forward sends the rest to the broker, if there is any, and answers.
func (c *alterConfigs) forward() Decision {
	finish := func(resp kmsg.Response) Decision {
		r := resp.(*kmsg.IncrementalAlterConfigsResponse)
		r.Resources = merge(c.order, c.ours, r.Resources, func(r *kmsg.IncrementalAlterConfigsResponseResource) configResource {
			return configResource{r.ResourceType, r.ResourceName}
		})
		return answer(c.h, r)
	}
	if len(c.rest.Resources) == 0 {
		return finish(c.rest.ResponseKind())
	}
	return ask(c.h, c.rest, finish)
}
