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

// Topic configs of a mirror come in three kinds: those that follow the source (followed), those
// that a mirror must have its own way while it is one (overridden), and all others, which belong to
// the destination and are free.

// alwaysFollowed are the configs that every mirror has from its source: without them it could not
// hold the source's records, or would keep other ones. The lags of compaction are never below what
// klink needs: see cleaner.go.
var alwaysFollowed = []string{"cleanup.policy", "max.message.bytes", minLagConfig, maxLagConfig}

// followedByDefault are followed too unless the link says otherwise (topic.config.sync.include).
// Retention is among them from the start: with the destination's default an old topic's records
// would be deleted as soon as they are mirrored.
var followedByDefault = []string{
	"retention.ms", "retention.bytes", "delete.retention.ms", minLagConfig, maxLagConfig, "segment.bytes", "segment.ms",
}

// neverFollowed name replicas of one cluster, which mean nothing in another.
var neverFollowed = map[string]bool{"leader.replication.throttled.replicas": true, "follower.replication.throttled.replicas": true}

// followedBy are the configs whose effective value at the source is also set at the mirrors of a
// link.
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

// overridden are the configs that a mirror needs: batches are kept as they are, codec and
// timestamps included, however old or far in the future. They are set at the topic even where the
// broker's default is the same, which may change.
var overridden = map[string]string{
	messageFormat:                         messageFormatV2, // before Kafka 3.0
	"compression.type":                    "producer",
	"message.timestamp.type":              "CreateTime",
	"message.timestamp.before.max.ms":     "9223372036854775807",
	"message.timestamp.after.max.ms":      "9223372036854775807",
	"message.timestamp.difference.max.ms": "9223372036854775807", // before Kafka 3.6
}

// In an older message format a batch has no place for the stamp: the broker would drop it. Any
// format from 0.11 on will do, and brokers ignore one that is beyond their
// inter.broker.protocol.version, so it is the oldest.
const (
	messageFormat   = "message.format.version"
	messageFormatV2 = "0.11.0-IV2"
)

// formatMatters says whether brokers that have this message.format.version may write another format
// than v2. From 3.0 on they do not, though they know the config up to 4.0.
func formatMatters(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err != nil || n < 3
}

// A topicConfigKind says what a config does to batches that are appended.
type topicConfigKind uint8

const (
	// keepsBatches: batches are stored as they are sent, or are refused only for as long as the
	// config says so.
	keepsBatches topicConfigKind = iota
	// rewritesBatches: the broker may store something else.
	rewritesBatches
	// refusesBatches: the broker may refuse for good what the source has.
	refusesBatches
)

// topicConfigKinds are the topic configs of Apache Kafka 2.4 to 4.3. Clients may not alter those
// that rewrite or refuse batches. klink sets those that rewrite them. It sets or follows those that
// refuse them, but for segment.bytes, which is the destination's own. The levels of codecs count
// only where compression.type names a codec. min.insync.replicas refuses appends only while
// replicas are missing, which is the destination's to decide.
var topicConfigKinds = map[string]topicConfigKind{
	"cleanup.policy":                          refusesBatches, // records without a key, in a compacted topic
	"compression.gzip.level":                  keepsBatches,
	"compression.lz4.level":                   keepsBatches,
	"compression.type":                        rewritesBatches,
	"compression.zstd.level":                  keepsBatches,
	"delete.retention.ms":                     keepsBatches,
	"file.delete.delay.ms":                    keepsBatches,
	"flush.messages":                          keepsBatches,
	"flush.ms":                                keepsBatches,
	"follower.replication.throttled.replicas": keepsBatches,
	"index.interval.bytes":                    keepsBatches,
	"leader.replication.throttled.replicas":   keepsBatches,
	"local.retention.bytes":                   keepsBatches,
	"local.retention.ms":                      keepsBatches,
	"max.compaction.lag.ms":                   keepsBatches,
	"max.message.bytes":                       refusesBatches,
	"message.downconversion.enable":           keepsBatches, // for consumers before 0.11, which klink does not serve
	messageFormat:                             rewritesBatches,
	"message.timestamp.after.max.ms":          refusesBatches,
	"message.timestamp.before.max.ms":         refusesBatches,
	"message.timestamp.difference.max.ms":     refusesBatches,
	"message.timestamp.type":                  rewritesBatches,
	"min.cleanable.dirty.ratio":               keepsBatches,
	"min.compaction.lag.ms":                   keepsBatches,
	"min.insync.replicas":                     keepsBatches,
	"preallocate":                             keepsBatches,
	"remote.copy.lag.bytes":                   keepsBatches,
	"remote.copy.lag.ms":                      keepsBatches,
	"remote.log.copy.disable":                 keepsBatches,
	"remote.log.delete.on.disable":            keepsBatches,
	"remote.storage.enable":                   keepsBatches,
	"retention.bytes":                         keepsBatches,
	"retention.ms":                            keepsBatches,
	"segment.bytes":                           refusesBatches,
	"segment.index.bytes":                     keepsBatches,
	"segment.jitter.ms":                       keepsBatches,
	"segment.ms":                              keepsBatches,
	"unclean.leader.election.enable":          keepsBatches,
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
	for name, kind := range topicConfigKinds {
		if kind != keepsBatches {
			m[name] = true
		}
	}
	return m
}

// minSegmentBytes is the least segment.bytes that Kafka 4 accepts. The size of segments changes
// nothing of what is mirrored, so a smaller value of an older source is raised.
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

// mirrorConfigs makes the configs of a mirror topic of the source topic's and of those that were
// asked for. follows are the names of those that follow the source. known are the configs of some
// topic of the destination, whose names tell what its brokers know. atStop are the source's own
// values of what is overridden, nil = the destination's default.
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
		d, knows := known[name]
		if !knows || name == messageFormat && !formatMatters(d.value) {
			continue
		}
		configs[name] = value
		if name == messageFormat {
			continue // it stays when mirroring stops: the log has stamps, and is translated, in v2 alone
		}
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
