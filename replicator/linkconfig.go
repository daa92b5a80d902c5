package replicator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"klink/protocol/batch"
)

// linkConfig is what the replicator reads from the configs of a link, beside those of the client.
type linkConfig struct {
	checkInterval  time.Duration // availability.check.ms
	checkThreshold int           // availability.check.consecutive.failure.threshold
	metadataMaxAge time.Duration // metadata.max.age.ms
	partitionBytes int32         // replica.fetch.max.bytes, per partition
	maxWait        time.Duration // fetch.max.wait.ms
	reconnect      time.Duration // reconnect.backoff.ms
	reconnectMax   time.Duration // reconnect.backoff.max.ms
	align          bool          // offset.alignment is not off
	alignMax       int64         // offset.alignment.max, per partition
	joinBelow      int           // append.join.below, bytes of a batch
}

// newLinkConfig reads configs. Values were checked when the link was stored; one that does not
// parse counts as its default.
func newLinkConfig(configs map[string]string) linkConfig {
	number := func(key string, def, low, high int64) int64 {
		v, err := strconv.ParseInt(strings.TrimSpace(configs[key]), 10, 64)
		if err != nil {
			return def
		}
		return min(max(v, low), high)
	}
	ms := func(key string, def int64) time.Duration {
		return time.Duration(number(key, def, 1, 24*3600*1000)) * time.Millisecond
	}
	return linkConfig{
		checkInterval:  ms("availability.check.ms", 2000),
		checkThreshold: int(number("availability.check.consecutive.failure.threshold", 3, 1, 1000)),
		metadataMaxAge: ms("metadata.max.age.ms", 10_000),
		partitionBytes: int32(number("replica.fetch.max.bytes", 1<<20, 1, 1<<30)),
		maxWait:        ms("fetch.max.wait.ms", 500),
		reconnect:      ms("reconnect.backoff.ms", 50),
		reconnectMax:   ms("reconnect.backoff.max.ms", 2000),
		align:          !strings.EqualFold(strings.TrimSpace(configs["offset.alignment"]), "off"),
		alignMax:       number("offset.alignment.max", 100_000_000, 0, 1_000_000_000),
		joinBelow:      int(number("append.join.below", 16<<10, 0, batch.MaxJoined)),
	}
}

// fingerprint returns a string that is the same only for equal configs.
func fingerprint(configs map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(configs)) {
		b.WriteString(strconv.Quote(k))
		b.WriteByte('=')
		b.WriteString(strconv.Quote(configs[k]))
		b.WriteByte('\n')
	}
	return b.String()
}

// retryBackoff returns how long to wait before the next attempt to connect.
func (c linkConfig) retryBackoff(fails int) time.Duration {
	return min(c.reconnect<<min(fails, 10), max(c.reconnect, c.reconnectMax))
}
