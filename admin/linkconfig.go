package admin

import (
	"slices"
	"strings"

	"klink/admin/aclsync"
	"klink/admin/filter"
)

// LinkConfig is one row of the table of link configs. Validation, the answers to DescribeLinks,
// docs/configs.md and the help of the command line all come from this table.
type LinkConfig struct {
	Name string
	Type ConfigType
	// Default is the value if the key is not set; "" = none.
	Default string
	// Required keys must be set.
	Required bool
	// Sensitive values are sealed in the store and shown as [hidden].
	Sensitive bool
	// Importance is high, medium or low, as in Kafka's own tables.
	Importance string
	// Allowed describes the allowed values, for people; "" = anything of the type.
	Allowed string
	Doc     string

	// check refuses a value of the right type; the error says what is wrong with it.
	check func(value string) error
	// connection marks a config that decides how klink reaches the source. klink connects with a
	// change before it stores it.
	connection bool
	// custody says how the config concerns the secrets of its link. Every row must set it.
	custody custody
}

// ConfigType is the type of a config in Kafka's words.
type ConfigType string

// The types of link configs.
const (
	TypeString   ConfigType = "string"
	TypePassword ConfigType = "password"
	TypeList     ConfigType = "list"
	TypeBoolean  ConfigType = "boolean"
	TypeInt      ConfigType = "int"
)

// The link configs that klink itself looks at.
const (
	ConfigBootstrapServers      = "bootstrap.servers"
	ConfigLinkPaused            = "cluster.link.paused"
	ConfigMetadataMaxAge        = "metadata.max.age.ms"
	ConfigAvailabilityCheck     = "availability.check.ms"
	ConfigAvailabilityThreshold = "availability.check.consecutive.failure.threshold"
	ConfigReplicaFetchMaxBytes  = "replica.fetch.max.bytes"
	ConfigFetchMaxWait          = "fetch.max.wait.ms"
	ConfigReconnectBackoff      = "reconnect.backoff.ms"
	ConfigReconnectBackoffMax   = "reconnect.backoff.max.ms"
	ConfigRetryBackoff          = "retry.backoff.ms"
	ConfigRequestTimeout        = "request.timeout.ms"
	ConfigOffsetAlignment       = "offset.alignment"
	ConfigOffsetAlignmentMax    = "offset.alignment.max"
	ConfigAppendJoinBelow       = "append.join.below"

	ConfigOffsetSync        = "consumer.offset.sync.enable"
	ConfigOffsetSyncMs      = "consumer.offset.sync.ms"
	ConfigGroupFilters      = filter.ConfigGroups
	ConfigACLSync           = "acl.sync.enable"
	ConfigACLSyncMs         = "acl.sync.ms"
	ConfigACLFilters        = filter.ConfigACLs
	ConfigTopicSyncMs       = "topic.config.sync.ms"
	ConfigTopicSyncInclude  = "topic.config.sync.include"
	ConfigAutoCreate        = "auto.create.mirror.topics.enable"
	ConfigAutoCreateFilters = filter.ConfigTopics
	ConfigStartOffset       = "mirror.start.offset.spec"
)

var linkConfigs = []LinkConfig{
	{
		Name: ConfigBootstrapServers, Type: TypeList, custody: decides, Required: true, Importance: "high", connection: true,
		Allowed: "HOST:PORT, separated by commas", check: checkBootstrap,
		Doc: "Brokers of the source cluster to begin with, as klink reaches them; the others are learned from these. A change is refused when another cluster answers there.",
	},
	{
		Name: "security.protocol", Type: TypeString, custody: decides, Default: "PLAINTEXT", Importance: "high", connection: true,
		Allowed: "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", check: oneOfFold("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
		Doc: "How to talk to the source's brokers.",
	},
	{
		Name: "sasl.mechanism", Type: TypeString, custody: decides, Importance: "high", connection: true,
		Allowed: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", check: oneOf("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
		Doc: "How to authenticate. Must be set when security.protocol is SASL_PLAINTEXT or SASL_SSL.",
	},
	{
		Name: "sasl.jaas.config", Type: TypePassword, custody: secret, Sensitive: true, Importance: "high", connection: true,
		Doc: "The login module with user name and password, as Java clients take it, on one line: `org.apache.kafka.common.security.plain.PlainLoginModule required username=\"U\" password=\"P\";`. The user needs DESCRIBE, DESCRIBE_CONFIGS and READ on the mirrored topics and DESCRIBE on the cluster.",
	},
	{
		Name: "ssl.truststore.type", Type: TypeString, custody: decides, Default: "PEM", Importance: "medium", connection: true,
		Allowed: "PEM", check: oneOf("PEM"),
		Doc: "The format of the trust store.",
	},
	{
		Name: "ssl.truststore.location", Type: TypeString, custody: decides, Importance: "high", connection: true,
		Doc: "A PEM file, on the machine of klink and in its `--link-file-directories`, with the certificates of the authorities that are trusted. Without any, the system's are.",
	},
	{
		Name: "ssl.truststore.certificates", Type: TypeString, custody: decides, Importance: "high", connection: true,
		Doc: "The trusted certificates themselves, in PEM. They are kept with the link, so no file is needed on the machine of klink.",
	},
	{
		Name: "ssl.ca.location", Type: TypeString, custody: decides, Importance: "medium", connection: true,
		Doc: "librdkafka's name of ssl.truststore.location.",
	},
	{
		Name: "ssl.endpoint.identification.algorithm", Type: TypeString, custody: decides, Default: "https", Importance: "low", connection: true,
		Allowed: "https, or nothing", check: oneOf("https", "HTTPS", ""),
		Doc: "https: the name in a broker's certificate must be the one dialled. Nothing: any trusted certificate will do.",
	},
	{
		Name: "ssl.keystore.type", Type: TypeString, custody: unconcerned, Default: "PEM", Importance: "medium", connection: true,
		Allowed: "PEM", check: oneOf("PEM"),
		Doc: "The format of the key store.",
	},
	{
		Name: "ssl.keystore.location", Type: TypeString, custody: unconcerned, Importance: "high", connection: true,
		Doc: "A PEM file, on the machine of klink and in its `--link-file-directories`, with the private key and the certificate that klink shows to the source.",
	},
	{
		Name: "ssl.keystore.certificate.chain", Type: TypeString, custody: unconcerned, Importance: "high", connection: true,
		Doc: "The certificate that klink shows to the source, with its chain, in PEM.",
	},
	{
		Name: "ssl.keystore.key", Type: TypePassword, custody: secret, Sensitive: true, Importance: "high", connection: true,
		Doc: "The private key of ssl.keystore.certificate.chain, in PEM (PKCS #8, not encrypted).",
	},
	{
		Name: "client.id", Type: TypeString, custody: unconcerned, Default: "klink", Importance: "low", connection: true, Allowed: "at most 256 bytes", check: atMostBytes(256),
		Doc: "The client id in the source's logs, metrics and quotas.",
	},
	{
		Name: "client.dns.lookup", Type: TypeString, custody: unconcerned, Default: "use_all_dns_ips", Importance: "low",
		Allowed: "use_all_dns_ips or resolve_canonical_bootstrap_servers_only", check: oneOf("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only", "default"),
		Doc: "Taken for the sake of existing files, and without effect: klink always tries every address of a name.",
	},
	{
		Name: ConfigMetadataMaxAge, Type: TypeInt, custody: unconcerned, Default: "10000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often the source's topics and brokers are looked at, in milliseconds: new partitions are followed within this time.",
	},
	{
		Name: ConfigRequestTimeout, Type: TypeInt, custody: unconcerned, Default: "30000", Importance: "low", Allowed: "1000 to 900000", check: between(1000, 900000),
		Doc: "How long to wait for an answer of the source, in milliseconds.",
	},
	{
		Name: ConfigRetryBackoff, Type: TypeInt, custody: unconcerned, Default: "100", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long to wait before a failed request to the source is tried again, in milliseconds.",
	},
	{
		Name: ConfigReconnectBackoff, Type: TypeInt, custody: unconcerned, Default: "50", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long to wait before a lost connection is tried again, in milliseconds; it doubles, with jitter, up to reconnect.backoff.max.ms.",
	},
	{
		Name: ConfigReconnectBackoffMax, Type: TypeInt, custody: unconcerned, Default: "2000", Importance: "low", Allowed: "1 to 600000", check: between(1, 600000),
		Doc: "The longest wait between two tries to connect, in milliseconds.",
	},
	{
		Name: "connections.max.idle.ms", Type: TypeInt, custody: unconcerned, Default: "600000", Importance: "low", Allowed: "1000 to 86400000", check: between(1000, 86400000),
		Doc: "Taken for the sake of existing files, and without effect: klink keeps the connections of its links busy.",
	},
	{
		Name: ConfigLinkPaused, Type: TypeBoolean, custody: unconcerned, Default: "false", Importance: "medium",
		Doc: "true stops all the mirroring of the link until it is false again; nothing is lost, as long as the source keeps the records.",
	},
	{
		Name: ConfigAvailabilityCheck, Type: TypeInt, custody: unconcerned, Default: "2000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink looks whether the source answers, in milliseconds.",
	},
	{
		Name: ConfigAvailabilityThreshold, Type: TypeInt, custody: unconcerned, Default: "3", Importance: "low", Allowed: "1 to 1000", check: between(1, 1000),
		Doc: "After so many failed looks in a row the link is UNAVAILABLE.",
	},
	{
		Name: ConfigReplicaFetchMaxBytes, Type: TypeInt, custody: unconcerned, Default: "1048576", Importance: "low", Allowed: "1024 to 104857600", check: between(1024, 104857600),
		Doc: "How much to fetch of one partition at once, in bytes. A single batch may be larger, and of a source that is far away up to 32 times as much is asked for.",
	},
	{
		Name: ConfigFetchMaxWait, Type: TypeInt, custody: unconcerned, Default: "500", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long the source may wait for new records before it answers a fetch, in milliseconds.",
	},
	{
		Name: ConfigOffsetAlignment, Type: TypeString, custody: unconcerned, Default: "auto", Importance: "medium",
		Allowed: "auto or off", check: oneOf("auto", "off"),
		Doc: "auto: mirrors get the source's offsets at the destination's brokers themselves where that is possible, so that clients may go straight to the brokers after promotion; `klink mirror describe` shows where it is not, and why. off: only klink shows the source's offsets. Through klink offsets are the source's either way. A change counts from the next offset on; a partition that has a shift keeps it.",
	},
	{
		Name: ConfigOffsetAlignmentMax, Type: TypeInt, custody: unconcerned, Default: "100000000", Importance: "low", Allowed: "0 to 1000000000", check: between(0, 1000000000),
		Doc: "How many offsets of a partition are used up at the destination so that its first record gets the source's offset. A partition whose log starts higher at the source is mirrored with a shift.",
	},
	{
		Name: ConfigAppendJoinBelow, Type: TypeInt, custody: unconcerned, Default: "16384", Importance: "low", Allowed: "0 to 1048576", check: between(0, 1048576),
		Doc: "Batches of fewer bytes are appended together, as one batch of at most 1 MiB, where they have queued up behind an append that the destination has not answered yet: a mirror of a source whose producers do not linger would fall behind otherwise. Records, offsets and timestamps stay as they are; only where batches begin changes. 0: never.",
	},
	{
		Name: ConfigOffsetSync, Type: TypeBoolean, custody: unconcerned, Default: "false", Importance: "medium",
		Doc: "true: the committed offsets of the groups of consumer.offset.group.filters are carried over from the source, for mirrored topics, so that consumers can go on at the destination where they were. A group that is active at the destination is left alone, and so is what has been committed there beyond the source's offset.",
	},
	{
		Name: ConfigOffsetSyncMs, Type: TypeInt, custody: unconcerned, Default: "30000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often committed offsets are carried over, in milliseconds.",
	},
	{
		Name: ConfigGroupFilters, Type: TypeString, custody: unconcerned, Importance: "medium", Allowed: "JSON" + filter.Form(filter.GroupField),
		check: func(v string) error { _, err := filter.ParseGroups(v); return err },
		Doc:   "The groups whose offsets are carried over: those that an INCLUDE filter matches and no EXCLUDE filter does. The name `*` with LITERAL is every group. Without filters no group is. `klink group migrate` excludes a group once it has moved.",
	},
	{
		Name: ConfigACLSync, Type: TypeBoolean, custody: unconcerned, Default: "false", Importance: "medium",
		Doc: "true: ACLs at the destination follow those of the source that acl.filters match. klink deletes only ACLs that it has created itself. When it is set to false, or acl.filters is deleted, the ACLs stay, and klink forgets that it created them.",
	},
	{
		Name: ConfigACLSyncMs, Type: TypeInt, custody: unconcerned, Default: "5000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often ACLs are compared, in milliseconds. An ACL that the source has no more is deleted when two looks in a row have missed it.",
	},
	{
		Name: ConfigACLFilters, Type: TypeString, custody: unconcerned, Importance: "medium",
		check:   func(v string) error { _, err := aclsync.ParseFilters(v); return err },
		Allowed: "JSON: {\"aclFilters\":[{\"resourceFilter\":{\"resourceType\":T,\"patternType\":P,\"name\":N},\"accessFilter\":{\"operation\":O,\"permissionType\":A,\"principal\":U,\"host\":H}}]}",
		Doc:     "Which ACLs of the source to sync: those that any of the filters match. Values are Kafka's own, in upper or lower case, or any: resourceType any, topic, group, cluster, transactional_id, delegation_token or user; patternType any, match, literal or prefixed; operation any, all, read, ...; permissionType any, allow or deny. Both objects must be there; a field that is left out of them is any. As in Kafka's ACL filters, name, principal and host have to equal those of the ACL (`*` finds the ACLs that are made for `*`), and patternType match finds all ACLs that apply to a resource of the name. Nothing, or an empty list: no ACLs are synced. ACLs that would give the destination away, or lock klink out, are left out unless a filter names what makes them so: see operations.md.",
	},
	{
		Name: ConfigTopicSyncMs, Type: TypeInt, custody: unconcerned, Default: "5000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often the configs of mirrors are compared with those of their source topics, in milliseconds.",
	},
	{
		Name: ConfigTopicSyncInclude, Type: TypeList, custody: unconcerned, Default: strings.Join(followedByDefault, ","), Importance: "medium",
		Allowed: "names of topic configs, separated by commas; not compression.type, message.timestamp.* nor throttles", check: checkFollowed,
		Doc: "The topic configs that mirrors have from their source topics and that clients cannot alter. cleanup.policy, max.message.bytes, min.compaction.lag.ms and max.compaction.lag.ms always are, whether named or not, but a lower max.message.bytes only when mirroring stops, and the lags of a compacted mirror are ten minutes at least until then. What else differs is shown by `klink mirror describe`.",
	},
	{
		Name: ConfigStartOffset, Type: TypeString, custody: unconcerned, Default: startEarliest, Importance: "medium",
		Allowed: "earliest, latest, or a time from 1970 on as in 2026-01-31T18:00:00.000Z; without a zone it is UTC", check: checkStartOffset,
		Doc: "Where mirrors begin that are created from now on: with the oldest record of the source, behind its newest one, or with the first record that is not older than a time. Mirrors that are there stay as they are, and partitions that a source topic gets later are mirrored from their beginning.",
	},
	{
		Name: ConfigAutoCreate, Type: TypeBoolean, custody: unconcerned, Default: "false", Importance: "medium",
		Doc: "true: source topics that auto.create.mirror.topics.filters includes, and that have no mirror, get one, within metadata.max.age.ms; those that are internal (`__`, `_klink`) never do. A topic of the same name at the destination is reported and left alone. Nothing is deleted. A mirror that somebody deletes is created again: exclude its topic first.",
	},
	{
		Name: ConfigAutoCreateFilters, Type: TypeString, custody: unconcerned, Importance: "medium", Allowed: "JSON" + filter.Form(filter.TopicField),
		check: func(v string) error { _, err := filter.ParseTopics(v); return err },
		Doc:   "Which source topics get mirrors by themselves: those that an INCLUDE filter matches and no EXCLUDE filter does. `*` with the patternType LITERAL is every topic. Without filters none do.",
	},
}

// configAliases maps other names of link configs, those of the documented product, to the real
// names.
var configAliases = map[string]string{
	ConfigACLFilters + ".json":        ConfigACLFilters,
	ConfigGroupFilters + ".json":      ConfigGroupFilters,
	ConfigAutoCreateFilters + ".json": ConfigAutoCreateFilters,
}

// LinkConfigName returns the name under which klink keeps a link config: the real name for an
// alias, else name itself.
func LinkConfigName(name string) string {
	if real, ok := configAliases[name]; ok {
		return real
	}
	return name
}

// LinkConfigs lists the table in its own order. The slice is the caller's.
func LinkConfigs() []LinkConfig { return slices.Clone(linkConfigs) }

// LookupLinkConfig finds a row by name.
func LookupLinkConfig(name string) (LinkConfig, bool) {
	i := slices.IndexFunc(linkConfigs, func(c LinkConfig) bool { return c.Name == name })
	if i < 0 {
		return LinkConfig{}, false
	}
	return linkConfigs[i], true
}

// LinkConfigValue returns the value of a config of a link: the one that was set, else the default.
func LinkConfigValue(configs map[string]string, name string) string {
	if v, ok := configs[name]; ok {
		return v
	}
	c, _ := LookupLinkConfig(name)
	return c.Default
}

// isSensitive reports whether the value of a config is a secret. It counts a config that this
// version does not know as one: a later version has written it, and may take it for a secret.
func isSensitive(name string) bool {
	c, known := LookupLinkConfig(name)
	return !known || c.Sensitive
}
