package admin

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic configs of a mirror come in three kinds: those that follow the source (followed), those that a mirror must have
// its own way while it is one (overridden), and all others, which belong to the destination and are free.

// alwaysFollowed are the configs that every mirror has from its source: without them it could not hold the source's records, or
// would keep other ones.
var alwaysFollowed = []string{"cleanup.policy", "max.message.bytes"}

// followedByDefault are followed too unless the link says otherwise (topic.config.sync.include). Retention is among them from
// the start: with the destination's default an old topic's records would be deleted as soon as they are mirrored.
var followedByDefault = []string{
	"retention.ms", "retention.bytes", "delete.retention.ms", "min.compaction.lag.ms", "max.compaction.lag.ms", "segment.bytes", "segment.ms",
}

// neverFollowed name replicas of one cluster, which mean nothing in another.
var neverFollowed = map[string]bool{"leader.replication.throttled.replicas": true, "follower.replication.throttled.replicas": true}

// followedBy are the configs whose effective value at the source is also set at the mirrors of a link.
func followedBy(link map[string]string) []string {
	names := slices.Clone(alwaysFollowed)
	for _, name := range splitList(LinkConfigValue(link, ConfigTopicSyncInclude)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// splitList is the elements of a config of type list.
func splitList(value string) (list []string) {
	for _, e := range strings.Split(value, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// checkFollowed refuses what cannot follow.
func checkFollowed(value string) error {
	for _, name := range splitList(value) {
		if _, own := overridden[name]; own || neverFollowed[name] || checkName(name) != nil || strings.HasPrefix(name, "mirror.") {
			return errNotAllowed
		}
	}
	return nil
}

// overridden are the configs that a mirror needs: batches are kept as they are, codec and timestamps included, however old
// or far in the future.
var overridden = map[string]string{
	"compression.type":                    "producer",
	"message.timestamp.type":              "CreateTime",
	"message.timestamp.before.max.ms":     "9223372036854775807",
	"message.timestamp.after.max.ms":      "9223372036854775807",
	"message.timestamp.difference.max.ms": "9223372036854775807", // before Kafka 3.6
}

// syncedConfigs are the configs that clients may not alter on a mirror of a link.
func syncedConfigs(link map[string]string) map[string]bool {
	m := map[string]bool{}
	for _, name := range followedBy(link) {
		m[name] = true
	}
	for name := range overridden {
		m[name] = true
	}
	return m
}

// minSegmentBytes is the least segment.bytes that Kafka 4 accepts. The size of segments changes nothing of what is
// mirrored, so a smaller value of an older source is raised.
const minSegmentBytes = 1 << 20

// topicConfig is one config of a topic.
type topicConfig struct {
	value    string
	null     bool
	explicit bool // set at the topic, not a default
}

// describeTopicConfigs asks for all configs of a topic.
func describeTopicConfigs(ctx context.Context, admin *kadm.Client, topic string) (map[string]topicConfig, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	r, err := resources.On(topic, nil)
	if err != nil {
		return nil, err
	}
	if r.Err != nil {
		return nil, withMessage(r.Err, r.ErrMessage)
	}
	configs := make(map[string]topicConfig, len(r.Configs))
	for _, c := range r.Configs {
		configs[c.Key] = topicConfig{value: c.MaybeValue(), null: c.Value == nil, explicit: c.Source == kmsg.ConfigSourceDynamicTopicConfig}
	}
	return configs, nil
}

func (s *Service) topicConfigs(ctx context.Context, topic string) (map[string]topicConfig, error) {
	return describeTopicConfigs(ctx, s.admin, topic)
}

// mirrorConfigs makes the configs of a mirror topic of the source topic's and of those that were asked for. follows are the names
// of those that follow the source. known are the
// configs of some topic of the destination, whose names tell what its brokers know. atStop are the source's own values of
// what is overridden, nil = the destination's default.
func mirrorConfigs(topic string, follows []string, source, known map[string]topicConfig, asked map[string]string) (configs map[string]string, atStop map[string]*string, refused *protocol.Error) {
	configs, atStop = map[string]string{}, map[string]*string{}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if _, own := overridden[name]; own || slices.Contains(follows, name) {
			return nil, nil, protocol.Errorf(kerr.InvalidConfig, "config %s of mirror topic '%s' follows the source topic and cannot be set: leave it out", name, topic)
		}
		configs[name] = asked[name]
	}
	for _, name := range follows {
		s, ok := source[name]
		d, knows := known[name]
		if !ok || s.null || !knows {
			continue
		}
		configs[name] = s.value
		switch name {
		case "segment.bytes":
			configs[name] = atLeast(s.value, minSegmentBytes)
		case "max.message.bytes":
			// What the source took when its limit was higher must still fit.
			if limit, err := strconv.ParseInt(d.value, 10, 64); err == nil {
				configs[name] = atLeast(s.value, limit)
			}
		}
		if configs[name] != s.value {
			atStop[name] = &s.value
			if name == "segment.bytes" {
				delete(atStop, name) // the destination would refuse it then, too
			}
		}
	}
	for name, value := range overridden {
		if _, knows := known[name]; !knows {
			continue
		}
		configs[name] = value
		if s, ok := source[name]; !ok || s.null {
			atStop[name] = nil
		} else if s.value != value {
			atStop[name] = &s.value
		}
	}
	return configs, atStop, nil
}

func atLeast(value string, least int64) string {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n < least {
		return strconv.FormatInt(least, 10)
	}
	return value
}

// alterTopicConfigs sets configs of a destination topic, nil = back to the default.
func (s *Service) alterTopicConfigs(ctx context.Context, topic string, configs map[string]*string) error {
	if len(configs) == 0 {
		return nil
	}
	var alter []kadm.AlterConfig
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		op := kadm.SetConfig
		if configs[name] == nil {
			op = kadm.DeleteConfig
		}
		alter = append(alter, kadm.AlterConfig{Op: op, Name: name, Value: configs[name]})
	}
	responses, err := s.admin.AlterTopicConfigs(ctx, alter, topic)
	if err != nil {
		return err
	}
	r, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return withMessage(r.Err, r.ErrMessage)
}

func pointers(configs map[string]string) map[string]*string {
	m := make(map[string]*string, len(configs))
	for name, value := range configs {
		m[name] = &value
	}
	return m
}
