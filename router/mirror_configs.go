package router

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The topic configs that klink adds to Kafka's. klink shows and accepts them; the topic does not
// store them.
const (
	configMirrorPrefix = "mirror."
	configLink         = "mirror.link"
	configSourceTopic  = "mirror.source.topic"
	configState        = "mirror.state"
)

func isMirrorConfig(name string) bool { return strings.HasPrefix(name, configMirrorPrefix) }

// mirrorConfigs are the mirror.* configs of one topic in a request.
type mirrorConfigs struct {
	link, sourceTopic, state *string
	seen                     bool     // any mirror.* at all
	fault                    *verdict // the first thing wrong with them
}

// set adds one config. It returns false if that is not a mirror.* config. As in Kafka, the last of
// two equal names wins.
func (c *mirrorConfigs) set(name string, value *string) bool {
	if !isMirrorConfig(name) {
		return false
	}
	c.seen = true
	field := map[string]**string{configLink: &c.link, configSourceTopic: &c.sourceTopic, configState: &c.state}[name]
	switch {
	case field == nil:
		c.fail(refuse(kerr.InvalidConfig, "Unknown topic config name: %s (known: %s, %s and %s)", name, configLink, configSourceTopic, configState))
	case value == nil || *value == "":
		c.fail(refuse(kerr.InvalidConfig, "Config %s needs a value", name))
	default:
		*field = value
	}
	return true
}

func (c *mirrorConfigs) fail(v verdict) {
	if c.fault == nil {
		c.fault = &v
	}
}

// check returns what is wrong with the configs taken together; nil = nothing.
func (c *mirrorConfigs) check() *verdict {
	switch {
	case c.fault != nil:
	case c.sourceTopic != nil && c.link == nil:
		c.fail(refuse(kerr.InvalidConfig, "Config %s also needs %s, the link to mirror through", configSourceTopic, configLink))
	case c.link != nil && c.state != nil:
		c.fail(refuse(kerr.InvalidConfig, "Configs %s and %s cannot be set together: create the mirror first, then set its state", configLink, configState))
	}
	return c.fault
}

// source returns the value of mirror.source.topic; "" means the same name as the mirror.
func (c *mirrorConfigs) source() string {
	if c.sourceTopic == nil {
		return ""
	}
	return *c.sourceTopic
}

// refuseSynced refuses to alter the first of names that follows the source of m; nil = none follows
// it.
func refuseSynced(m *Mirror, names []string) *verdict {
	if m == nil {
		return nil
	}
	if i := slices.IndexFunc(names, func(name string) bool { return m.SyncedConfigs[name] }); i >= 0 {
		v := refuse(kerr.InvalidRequest, "Cannot alter config '%s' of read-only mirror topic '%s': it follows the source", names[i], m.Topic)
		return &v
	}
	return nil
}

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
