package router

import (
	"slices"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs: v0-2
//
// Behavior:
//   - This request replaces all configs of a topic, and so would change configs that a mirror takes
//     from its source, or that mirroring needs. It is refused for read-only mirrors; clients can
//     use IncrementalAlterConfigs.
//   - mirror.* configs are refused. Other resources of the request go to the broker.
func init() { registerControl(int16(kmsg.AlterConfigs), handleAlterConfigs) }

func handleAlterConfigs(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrAlterConfigsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	rest := *req
	rest.Resources = nil
	var order []configResource
	ours := make(map[configResource]kmsg.AlterConfigsResponseResource)
	snapshot := s.snapshot()
	for i := range req.Resources {
		r := &req.Resources[i]
		key := configResource{r.ResourceType, r.ResourceName}
		order = append(order, key)
		v := refuseAlterConfigs(snapshot, key.topic(), r)
		if v == nil {
			rest.Resources = append(rest.Resources, *r)
			continue
		}
		refused := kmsg.NewAlterConfigsResponseResource()
		refused.ResourceType, refused.ResourceName = r.ResourceType, r.ResourceName
		refused.ErrorCode, refused.ErrorMessage = v.code, v.message
		ours[key] = refused
	}
	if len(ours) == 0 {
		return Decision{Action: Forward, Frame: frame}
	}
	// If a topic is refused once, all its entries in the request are refused.
	rest.Resources = slices.DeleteFunc(rest.Resources, func(r kmsg.AlterConfigsRequestResource) bool {
		_, refused := ours[configResource{r.ResourceType, r.ResourceName}]
		return refused
	})
	h = ownHeader(h)
	finish := func(resp kmsg.Response) Decision {
		r := resp.(*kmsg.AlterConfigsResponse)
		r.Resources = merge(order, ours, r.Resources, func(r *kmsg.AlterConfigsResponseResource) configResource {
			return configResource{r.ResourceType, r.ResourceName}
		})
		return answer(h, r)
	}
	if len(rest.Resources) == 0 {
		return finish(rest.ResponseKind())
	}
	return ask(h, &rest, finish)
}

// refuseAlterConfigs returns the reason why the configs of a topic cannot be replaced; nil = klink
// has no objection.
func refuseAlterConfigs(snapshot *Snapshot, topic string, r *kmsg.AlterConfigsRequestResource) *verdict {
	if topic == "" {
		return nil
	}
	if isInternal(topic) {
		v := refuseInternal(topic)
		return &v
	}
	for i := range r.Configs {
		if name := r.Configs[i].Name; isMirrorConfig(name) {
			v := refuse(kerr.InvalidConfig, "Config %s of topic '%s' can only be set with IncrementalAlterConfigs", name, topic)
			return &v
		}
	}
	if snapshot.readOnlyMirror(topic) != nil {
		v := refuse(kerr.InvalidRequest, "Cannot replace the configs of read-only mirror topic '%s': they follow the source; alter single configs with IncrementalAlterConfigs", topic)
		return &v
	}
	return nil
}
