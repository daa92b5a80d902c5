package router

import "github.com/twmb/franz-go/pkg/kmsg"

// configResource identifies a resource that has configs.
type configResource struct {
	kind kmsg.ConfigResourceType
	name string
}

// topic returns the topic name, or "" if the resource is not a topic.
func (r configResource) topic() string {
	if r.kind != kmsg.ConfigResourceTypeTopic {
		return ""
	}
	return r.name
}
