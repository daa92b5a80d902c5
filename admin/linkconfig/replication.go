package linkconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"klink/protocol/batch"
)

// Replication is what the replicator reads from the configs of a link, beside those of the client.
type Replication struct {
	CheckInterval  time.Duration // availability.check.ms
	CheckThreshold int           // availability.check.consecutive.failure.threshold
	MetadataMaxAge time.Duration // metadata.max.age.ms
	PartitionBytes int32         // replica.fetch.max.bytes, per partition
	MaxWait        time.Duration // fetch.max.wait.ms
	reconnect      time.Duration // reconnect.backoff.ms
	reconnectMax   time.Duration // reconnect.backoff.max.ms
	Align          bool          // offset.alignment is not off
	AlignMax       int64         // offset.alignment.max, per partition
	JoinBelow      int           // append.join.below, bytes of a batch
	Rack           string        // client.rack, "" = none
}

// ReplicationOf reads configs. Values were checked when the link was stored; one that does not
// parse counts as its default.
func ReplicationOf(configs map[string]string) Replication {
	number := func(key string, low, high int64) int64 {
		v, err := strconv.ParseInt(strings.TrimSpace(Value(configs, key)), 10, 64)
		if err != nil {
			v, _ = strconv.ParseInt(Value(nil, key), 10, 64)
		}
		return min(max(v, low), high)
	}
	ms := func(key string) time.Duration {
		return time.Duration(number(key, 1, 24*3600*1000)) * time.Millisecond
	}
	return Replication{
		CheckInterval:  ms(ConfigAvailabilityCheck),
		CheckThreshold: int(number(ConfigAvailabilityThreshold, 1, 1000)),
		MetadataMaxAge: ms(ConfigMetadataMaxAge),
		PartitionBytes: int32(number(ConfigReplicaFetchMaxBytes, 1, 1<<30)),
		MaxWait:        ms(ConfigFetchMaxWait),
		reconnect:      ms(ConfigReconnectBackoff),
		reconnectMax:   ms(ConfigReconnectBackoffMax),
		Align:          !strings.EqualFold(strings.TrimSpace(Value(configs, ConfigOffsetAlignment)), "off"),
		AlignMax:       number(ConfigOffsetAlignmentMax, 0, 1_000_000_000),
		JoinBelow:      int(number(ConfigAppendJoinBelow, 0, batch.MaxJoined)),
		Rack:           Value(configs, ConfigClientRack),
	}
}

// Fingerprint returns a string that is the same only for equal configs.
func Fingerprint(configs map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(configs)) {
		b.WriteString(strconv.Quote(k))
		b.WriteByte('=')
		b.WriteString(strconv.Quote(configs[k]))
		b.WriteByte('\n')
	}
	return b.String()
}

// RetryBackoff returns how long to wait before the next attempt to connect.
func (c Replication) RetryBackoff(fails int) time.Duration {
	return min(c.reconnect<<min(fails, 10), max(c.reconnect, c.reconnectMax))
}
