package router

import "github.com/twmb/franz-go/pkg/kmsg"

// configResource names a thing that has configs.
type configResource struct {
	kind kmsg.ConfigResourceType
	name string
}

// topic is the name of the topic, "" if the resource is none.
func (r configResource) topic() string {
	if r.kind != kmsg.ConfigResourceTypeTopic {
		return ""
	}
	return r.name
}
