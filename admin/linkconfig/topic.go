package linkconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"klink/admin/model"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The topic configs of a mirror come in three kinds. Followed ones are copied from the source.
// Overridden ones have the values that a mirror needs while it is one. All others belong to the
// destination, and anybody may set them.

// The configs that keep the cleaner off records: see cleaner.go of package admin.
const (
	MinLagConfig = "min.compaction.lag.ms"
	MaxLagConfig = "max.compaction.lag.ms"
)

// AlwaysFollowed are the configs that every mirror copies from its source: without them it could
// not hold the source's records, or would retain different ones. The compaction lags never fall
// below what klink needs: see cleaner.go.
var AlwaysFollowed = []string{"cleanup.policy", "max.message.bytes", MinLagConfig, MaxLagConfig}

// followedByDefault are also followed unless the link says otherwise (topic.config.sync.include).
// They include retention, from the start: with the destination's default, records of an old topic
// would be deleted as soon as they are mirrored.
var followedByDefault = []string{
	"retention.ms", "retention.bytes", "delete.retention.ms", MinLagConfig, MaxLagConfig, "segment.bytes", "segment.ms",
}

// NeverFollowed name replicas of one cluster, which have no meaning in another.
var NeverFollowed = map[string]bool{"leader.replication.throttled.replicas": true, "follower.replication.throttled.replicas": true}

// FollowedBy returns the configs whose effective value at the source is also set at the mirrors of
// a link.
func FollowedBy(link map[string]string) []string {
	names := slices.Clone(AlwaysFollowed)
	for _, name := range splitList(Value(link, ConfigTopicSyncInclude)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// splitList returns the elements of a config of type list.
func splitList(value string) (list []string) {
	for _, e := range strings.Split(value, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// checkFollowed refuses configs that cannot follow.
func checkFollowed(value string) error {
	for _, name := range splitList(value) {
		if _, own := Overridden[name]; own || NeverFollowed[name] || model.CheckName(name) != nil || strings.HasPrefix(name, "mirror.") {
			return errNotAllowed
		}
	}
	return nil
}

// Overridden are the configs that keep batches unchanged, codec and timestamps included, however
// old or far in the future they are. They are set at the topic even if the broker's default is the
// same, because the default may change.
var Overridden = map[string]string{
	MessageFormat:                         MessageFormatV2, // before Kafka 3.0
	"compression.type":                    "producer",
	"message.timestamp.type":              "CreateTime",
	"message.timestamp.before.max.ms":     "9223372036854775807",
	"message.timestamp.after.max.ms":      "9223372036854775807",
	"message.timestamp.difference.max.ms": "9223372036854775807", // before Kafka 3.6
}

// A batch in an older message format has no room for the stamp: the broker would drop it. Any
// format from 0.11 on will do. Brokers ignore a format beyond their inter.broker.protocol.version,
// so this is the oldest one that will do.
const (
	MessageFormat   = "message.format.version"
	MessageFormatV2 = "0.11.0-IV2"
)

// FormatMatters reports whether brokers with this message.format.version may write another format
// than v2. From 3.0 on they do not, although they know the config up to 4.0.
func FormatMatters(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err != nil || n < 3
}

// topicConfigKind says what a config does to batches that are appended.
type topicConfigKind uint8

const (
	// KeepsBatches: brokers store batches as sent, or refuse them only for as long as the config
	// says so.
	KeepsBatches topicConfigKind = iota
	// RewritesBatches: the broker may store something else.
	RewritesBatches
	// RefusesBatches: the broker may permanently refuse a batch that the source holds.
	RefusesBatches
)

// TopicConfigKinds are the topic configs of Apache Kafka 2.4 to 4.3. Clients may not alter those
// that rewrite or refuse batches. klink sets those that rewrite batches. It sets or follows those
// that refuse batches, except segment.bytes, which belongs to the destination. Codec levels count
// only if compression.type names a codec. min.insync.replicas refuses appends only while replicas
// are missing, and belongs to the destination.
var TopicConfigKinds = map[string]topicConfigKind{
	"cleanup.policy":                          RefusesBatches, // records without a key, in a compacted topic
	"compression.gzip.level":                  KeepsBatches,
	"compression.lz4.level":                   KeepsBatches,
	"compression.type":                        RewritesBatches,
	"compression.zstd.level":                  KeepsBatches,
	"delete.retention.ms":                     KeepsBatches,
	"file.delete.delay.ms":                    KeepsBatches,
	"flush.messages":                          KeepsBatches,
	"flush.ms":                                KeepsBatches,
	"follower.replication.throttled.replicas": KeepsBatches,
	"index.interval.bytes":                    KeepsBatches,
	"leader.replication.throttled.replicas":   KeepsBatches,
	"local.retention.bytes":                   KeepsBatches,
	"local.retention.ms":                      KeepsBatches,
	"max.compaction.lag.ms":                   KeepsBatches,
	"max.message.bytes":                       RefusesBatches,
	"message.downconversion.enable":           KeepsBatches, // for consumers before 0.11, which klink does not serve
	MessageFormat:                             RewritesBatches,
	"message.timestamp.after.max.ms":          RefusesBatches,
	"message.timestamp.before.max.ms":         RefusesBatches,
	"message.timestamp.difference.max.ms":     RefusesBatches,
	"message.timestamp.type":                  RewritesBatches,
	"min.cleanable.dirty.ratio":               KeepsBatches,
	"min.compaction.lag.ms":                   KeepsBatches,
	"min.insync.replicas":                     KeepsBatches,
	"preallocate":                             KeepsBatches,
	"remote.copy.lag.bytes":                   KeepsBatches,
	"remote.copy.lag.ms":                      KeepsBatches,
	"remote.log.copy.disable":                 KeepsBatches,
	"remote.log.delete.on.disable":            KeepsBatches,
	"remote.storage.enable":                   KeepsBatches,
	"retention.bytes":                         KeepsBatches,
	"retention.ms":                            KeepsBatches,
	"segment.bytes":                           RefusesBatches,
	"segment.index.bytes":                     KeepsBatches,
	"segment.jitter.ms":                       KeepsBatches,
	"segment.ms":                              KeepsBatches,
	"unclean.leader.election.enable":          KeepsBatches,
}

// SyncedConfigs are the configs that clients may not alter on a mirror of a link.
func SyncedConfigs(link map[string]string) map[string]bool {
	m := map[string]bool{}
	for _, name := range FollowedBy(link) {
		m[name] = true
	}
	for name := range Overridden {
		m[name] = true
	}
	for name, kind := range TopicConfigKinds {
		if kind != KeepsBatches {
			m[name] = true
		}
	}
	return m
}

// minSegmentBytes is the lowest segment.bytes that Kafka 4 accepts. The segment size does not
// affect what is mirrored, so klink raises a smaller value of an older source.
const minSegmentBytes = 1 << 20

// TopicConfig is one config of a topic.
type TopicConfig struct {
	Value    string
	Null     bool
	Explicit bool // set at the topic, not inherited from a default
}

// MirrorConfigs derives the configs of a mirror topic from the source topic's and the requested
// ones (asked). follows names the configs that follow the source. known are the configs of any
// topic of the destination: their names tell which configs its brokers know. atStop are the
// source's own values of the configs that klink changed, to be restored when mirroring stops; nil =
// the destination's default.
func MirrorConfigs(topic string, follows []string, source, known map[string]TopicConfig, asked map[string]string) (configs map[string]string, atStop map[string]*string, refused *protocol.Error) {
	configs, atStop = map[string]string{}, map[string]*string{}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if _, own := Overridden[name]; own || slices.Contains(follows, name) {
			return nil, nil, protocol.Errorf(kerr.InvalidConfig, "config %s of mirror topic '%s' follows the source topic and cannot be set: leave it out", name, topic)
		}
		configs[name] = asked[name]
	}
	for _, name := range follows {
		s, ok := source[name]
		d, knows := known[name]
		if !ok || s.Null || !knows {
			continue
		}
		configs[name] = s.Value
		switch name {
		case "segment.bytes":
			configs[name] = AtLeast(s.Value, minSegmentBytes)
		case "max.message.bytes":
			// Records that the source took under a higher limit must still fit.
			if limit, err := strconv.ParseInt(d.Value, 10, 64); err == nil {
				configs[name] = AtLeast(s.Value, limit)
			}
		}
		if configs[name] != s.Value {
			atStop[name] = &s.Value
			if name == "segment.bytes" {
				delete(atStop, name) // the destination would refuse the source's value then, too
			}
		}
	}
	for name, value := range Overridden {
		d, knows := known[name]
		if !knows || name == MessageFormat && !FormatMatters(d.Value) {
			continue
		}
		configs[name] = value
		if name == MessageFormat {
			continue // kept after mirroring stops: only v2 has stamps, and only v2 is translated
		}
		if s, ok := source[name]; !ok || s.Null {
			atStop[name] = nil
		} else if s.Value != value {
			atStop[name] = &s.Value
		}
	}
	return configs, atStop, nil
}

// AtLeast returns value, or least where value is a smaller number.
func AtLeast(value string, least int64) string {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n < least {
		return strconv.FormatInt(least, 10)
	}
	return value
}

// Pointers returns the configs as requests that alter them take them; nil would mean the default.
func Pointers(configs map[string]string) map[string]*string {
	m := make(map[string]*string, len(configs))
	for name, value := range configs {
		m[name] = &value
	}
	return m
}
