package linkconfig

import (
	"strings"

	"klink/admin/aclsync"
	"klink/admin/filter"
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
	ConfigClientRack            = "client.rack"

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

// storeTypes are the formats of trust and key stores.
const storeTypes = "PEM, JKS or PKCS12"

// checkStoreType refuses what storeTypes does not have.
var checkStoreType = oneOfFold("PEM", "JKS", "PKCS12")

// table has every link config. Only package initialisation writes it.
var table = after("sasl.jaas.config", loginConfigs, []Config{
	{
		Name: ConfigBootstrapServers, Type: TypeList, Custody: Decides, Required: true, Importance: "high", Connection: true,
		Allowed: "HOST:PORT, separated by commas", check: checkBootstrap,
		Doc: "Brokers of the source cluster that klink connects to first; it learns the others from them. klink refuses a change to another cluster.",
	},
	{
		Name: "security.protocol", Type: TypeString, Custody: Decides, Default: "PLAINTEXT", Importance: "high", Connection: true,
		Allowed: "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", check: oneOfFold("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
		Doc: "How to talk to the source's brokers.",
	},
	{
		Name: "sasl.mechanism", Type: TypeString, Custody: Decides, Importance: "high", Connection: true,
		Allowed: "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM", check: oneOf("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"),
		Doc: "How to authenticate. Must be set when security.protocol is SASL_PLAINTEXT or SASL_SSL.",
	},
	{
		Name: "sasl.jaas.config", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "high", Connection: true,
		Doc: "The login module with user name and password, in the format of Java clients, on one line: `org.apache.kafka.common.security.plain.PlainLoginModule required username=\"U\" password=\"P\";`. For OAUTHBEARER: `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=\"I\" clientSecret=\"S\" scope=\"C\";`, with SASL extensions as `extension_NAME=\"V\"`. For AWS_MSK_IAM: `software.amazon.msk.auth.iam.IAMLoginModule required;`, with `awsRoleArn=\"R\" awsRoleAccessKeyId=\"I\" awsRoleSecretAccessKey=\"S\"` unless klink runs with `--link-aws-credentials on`. The user needs DESCRIBE, DESCRIBE_CONFIGS and READ on the mirrored topics and DESCRIBE on the cluster.",
	},
	{
		Name: "ssl.truststore.type", Type: TypeString, Custody: Decides, Importance: "medium", Connection: true,
		Allowed: storeTypes, check: checkStoreType,
		Doc: "The format of the trust store. Default: klink tells it from the content. As in Java, JKS and PKCS12 stand for each other.",
	},
	{
		Name: "ssl.truststore.location", Type: TypeString, Custody: Decides, Importance: "high", Connection: true,
		Doc: "A file with the trusted CA certificates (PEM, JKS or PKCS #12), on klink's machine and in its `--link-file-directories`. klink reads it again when it changes. Default: the system's CA certificates.",
	},
	{
		Name: "ssl.truststore.password", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "medium", Connection: true,
		Doc: "The password of a JKS or PKCS12 trust store. Without it klink does not check that the store is whole, and cannot read an encrypted one.",
	},
	{
		Name: "ssl.truststore.certificates", Type: TypeString, Custody: Decides, Importance: "high", Connection: true,
		Doc: "The trusted CA certificates themselves, in PEM. klink stores them with the link, so it needs no file on its machine.",
	},
	{
		Name: "ssl.ca.location", Type: TypeString, Custody: Decides, Importance: "medium", Connection: true,
		Doc: "librdkafka's name for ssl.truststore.location; PEM only.",
	},
	{
		Name: "ssl.endpoint.identification.algorithm", Type: TypeString, Custody: Decides, Default: "https", Importance: "low", Connection: true,
		Allowed: "https, or empty", check: oneOf("https", "HTTPS", ""),
		Doc: "https: a broker's certificate must be for the host name that klink connects to. Empty: klink accepts any trusted certificate.",
	},
	{
		Name: "ssl.enabled.protocols", Type: TypeList, Custody: Decides, Default: "TLSv1.2,TLSv1.3", Importance: "medium", Connection: true,
		Doc: "The versions of TLS that klink may use. klink leaves out those older than TLS 1.2.",
	},
	{
		Name: "ssl.cipher.suites", Type: TypeList, Custody: Decides, Importance: "low", Connection: true,
		Doc: "The cipher suites that klink may use, by the names of Java. klink leaves out those that are not safe. Those of TLS 1.3 can only be listed all together, or not at all: then klink uses TLS 1.2. Default: all that are safe.",
	},
	{
		Name: "ssl.keystore.type", Type: TypeString, Custody: Unconcerned, Importance: "medium", Connection: true,
		Allowed: storeTypes, check: checkStoreType,
		Doc: "The format of the key store. Default: klink tells it from the content. As in Java, JKS and PKCS12 stand for each other.",
	},
	{
		Name: "ssl.keystore.location", Type: TypeString, Custody: Unconcerned, Importance: "high", Connection: true,
		Doc: "A file with one private key and the certificates that klink presents to the source (PEM, JKS or PKCS #12), on klink's machine and in its `--link-file-directories`. klink reads it again when it changes.",
	},
	{
		Name: "ssl.keystore.password", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "high", Connection: true,
		Doc: "The password of a JKS or PKCS12 key store.",
	},
	{
		Name: "ssl.key.password", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "high", Connection: true,
		Doc: "The password of an encrypted private key. Default for a JKS or PKCS12 key store: ssl.keystore.password.",
	},
	{
		Name: "ssl.keystore.certificate.chain", Type: TypeString, Custody: Unconcerned, Importance: "high", Connection: true,
		Doc: "The certificate that klink presents to the source, with its chain, in PEM.",
	},
	{
		Name: "ssl.keystore.key", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "high", Connection: true,
		Doc: "The private key of ssl.keystore.certificate.chain, in PEM. If it is encrypted (PKCS #8), ssl.key.password opens it.",
	},
	{
		Name: "client.id", Type: TypeString, Custody: Unconcerned, Default: "klink", Importance: "low", Connection: true, Allowed: "at most 256 bytes", check: atMostBytes(256),
		Doc: "The client id in the source's logs, metrics and quotas.",
	},
	{
		Name: ConfigClientRack, Type: TypeString, Custody: Unconcerned, Importance: "low", Allowed: "at most 256 bytes", check: atMostBytes(256),
		Doc: "The rack, or availability zone, of klink. If the source's brokers have racks and a `replica.selector.class` such as RackAwareReplicaSelector, klink fetches each partition from a follower in its rack. Empty: klink fetches from the leaders.",
	},
	{
		Name: "client.dns.lookup", Type: TypeString, Custody: Unconcerned, Default: "use_all_dns_ips", Importance: "low",
		Allowed: "use_all_dns_ips or resolve_canonical_bootstrap_servers_only", check: oneOf("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only", "default"),
		Doc: "Accepted so that existing files work, but has no effect: klink always tries every address of a name.",
	},
	{
		Name: ConfigMetadataMaxAge, Type: TypeInt, Custody: Unconcerned, Default: "10000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink refreshes the metadata of the source's topics and brokers, in milliseconds: it finds new partitions within this time.",
	},
	{
		Name: ConfigRequestTimeout, Type: TypeInt, Custody: Unconcerned, Default: "30000", Importance: "low", Allowed: "1000 to 900000", check: between(1000, 900000),
		Doc: "How long to wait for a response from the source, in milliseconds.",
	},
	{
		Name: ConfigRetryBackoff, Type: TypeInt, Custody: Unconcerned, Default: "100", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long to wait before klink retries a failed request to the source, in milliseconds.",
	},
	{
		Name: ConfigReconnectBackoff, Type: TypeInt, Custody: Unconcerned, Default: "50", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long to wait before klink reconnects, in milliseconds; the wait doubles, with jitter, up to reconnect.backoff.max.ms.",
	},
	{
		Name: ConfigReconnectBackoffMax, Type: TypeInt, Custody: Unconcerned, Default: "2000", Importance: "low", Allowed: "1 to 600000", check: between(1, 600000),
		Doc: "The longest wait between two attempts to connect, in milliseconds.",
	},
	{
		Name: "connections.max.idle.ms", Type: TypeInt, Custody: Unconcerned, Default: "600000", Importance: "low", Allowed: "1000 to 86400000", check: between(1000, 86400000),
		Doc: "Accepted so that existing files work, but has no effect: klink keeps the connections of its links busy.",
	},
	{
		Name: ConfigLinkPaused, Type: TypeBoolean, Custody: Unconcerned, Default: "false", Importance: "medium",
		Doc: "true pauses all mirrors of the link until it is false again; no records are lost as long as the source keeps them.",
	},
	{
		Name: ConfigAvailabilityCheck, Type: TypeInt, Custody: Unconcerned, Default: "2000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink checks whether the source responds, in milliseconds.",
	},
	{
		Name: ConfigAvailabilityThreshold, Type: TypeInt, Custody: Unconcerned, Default: "3", Importance: "low", Allowed: "1 to 1000", check: between(1, 1000),
		Doc: "After this many failed checks in a row the link is UNAVAILABLE.",
	},
	{
		Name: ConfigReplicaFetchMaxBytes, Type: TypeInt, Custody: Unconcerned, Default: "1048576", Importance: "low", Allowed: "1024 to 104857600", check: between(1024, 104857600),
		Doc: "How many bytes to fetch from one partition at once. A single batch may be larger, and klink fetches up to 32 times as much from a distant source.",
	},
	{
		Name: ConfigFetchMaxWait, Type: TypeInt, Custody: Unconcerned, Default: "500", Importance: "low", Allowed: "1 to 60000", check: between(1, 60000),
		Doc: "How long the source may wait for new records before it answers a fetch, in milliseconds.",
	},
	{
		Name: ConfigOffsetAlignment, Type: TypeString, Custody: Unconcerned, Default: "auto", Importance: "medium",
		Allowed: "auto or off", check: oneOf("auto", "off"),
		Doc: "auto: where possible, mirrors have the source's offsets at the destination's brokers too, so that clients can connect directly to the brokers after promotion; `klink mirror describe` shows where it is not possible, and why. off: only clients of klink see the source's offsets. Clients of klink see them either way. A change applies from the next offset on; a partition that has a shift keeps it.",
	},
	{
		Name: ConfigOffsetAlignmentMax, Type: TypeInt, Custody: Unconcerned, Default: "100000000", Importance: "low", Allowed: "0 to 1000000000", check: between(0, 1000000000),
		Doc: "How many offsets of a partition klink uses up at most at the destination, so that its first record gets the source's offset. klink mirrors a partition whose log starts higher at the source with a shift.",
	},
	{
		Name: ConfigAppendJoinBelow, Type: TypeInt, Custody: Unconcerned, Default: "16384", Importance: "low", Allowed: "0 to 1048576", check: between(0, 1048576),
		Doc: "klink joins batches smaller than this many bytes into one batch of at most 1 MiB when they have queued up behind an append that the destination has not answered yet: otherwise a mirror would fall behind if the source's producers do not linger. Records, offsets and timestamps do not change; only batch boundaries do. 0: never.",
	},
	{
		Name: ConfigOffsetSync, Type: TypeBoolean, Custody: Unconcerned, Default: "false", Importance: "medium",
		Doc: "true: klink carries over the committed offsets of the groups in consumer.offset.group.filters from the source, for mirrored topics, so that consumers can continue at the destination where they were. It leaves alone groups that are active at the destination, and offsets committed there beyond the source's.",
	},
	{
		Name: ConfigOffsetSyncMs, Type: TypeInt, Custody: Unconcerned, Default: "30000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink carries over committed offsets, in milliseconds.",
	},
	{
		Name: ConfigGroupFilters, Type: TypeString, Custody: Unconcerned, Importance: "medium", Allowed: "JSON" + filter.Form(filter.GroupField),
		check: func(v string) error { _, err := filter.ParseGroups(v); return err },
		Doc:   "The groups whose offsets klink carries over: those that match an INCLUDE filter and no EXCLUDE filter. The name `*` with LITERAL matches every group. Without filters there are none. `klink group migrate` excludes a group once it has moved.",
	},
	{
		Name: ConfigACLSync, Type: TypeBoolean, Custody: Unconcerned, Default: "false", Importance: "medium",
		Doc: "true: ACLs at the destination follow those of the source that acl.filters match. klink deletes only ACLs that it has created itself. When it is set to false, or acl.filters is deleted, the ACLs stay, and klink forgets that it created them.",
	},
	{
		Name: ConfigACLSyncMs, Type: TypeInt, Custody: Unconcerned, Default: "5000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink compares ACLs, in milliseconds. It deletes an ACL when two comparisons in a row do not find it at the source.",
	},
	{
		Name: ConfigACLFilters, Type: TypeString, Custody: Unconcerned, Importance: "medium",
		check:   func(v string) error { _, err := aclsync.ParseFilters(v); return err },
		Allowed: "JSON: {\"aclFilters\":[{\"resourceFilter\":{\"resourceType\":T,\"patternType\":P,\"name\":N},\"accessFilter\":{\"operation\":O,\"permissionType\":A,\"principal\":U,\"host\":H}}]}",
		Doc:     "Which ACLs of the source to sync: those that any of the filters match. Values are Kafka's own, in upper or lower case, or any: resourceType any, topic, group, cluster, transactional_id, delegation_token or user; patternType any, match, literal or prefixed; operation any, all, read, ...; permissionType any, allow or deny. Both objects are required; an omitted field matches any value. As in Kafka's ACL filters, name, principal and host must equal those of the ACL (`*` finds only ACLs for `*`), and patternType match finds all ACLs that apply to a resource of the name. Empty, or an empty list: no ACLs are synced. klink does not copy ACLs that would give control over the destination away, or lock klink out, unless a filter names exactly what makes them dangerous: see operations.md.",
	},
	{
		Name: ConfigTopicSyncMs, Type: TypeInt, Custody: Unconcerned, Default: "5000", Importance: "low", Allowed: "100 to 3600000", check: between(100, 3600000),
		Doc: "How often klink compares the configs of mirrors with those of their source topics, in milliseconds.",
	},
	{
		Name: ConfigTopicSyncInclude, Type: TypeList, Custody: Unconcerned, Default: strings.Join(followedByDefault, ","), Importance: "medium",
		Allowed: "names of topic configs, separated by commas, except compression.type, message.timestamp.* and throttles", check: checkFollowed,
		Doc: "The topic configs that mirrors copy from their source topics; clients cannot alter them. klink always copies cleanup.policy, max.message.bytes, min.compaction.lag.ms and max.compaction.lag.ms, even if they are not listed. It applies a lower max.message.bytes only when mirroring stops, and until then keeps the lags of a compacted mirror at ten minutes or more. `klink mirror describe` shows the other configs that differ.",
	},
	{
		Name: ConfigStartOffset, Type: TypeString, Custody: Unconcerned, Default: StartEarliest, Importance: "medium",
		Allowed: "earliest, latest, or a time since 1970 such as 2026-01-31T18:00:00.000Z; without a time zone it is UTC", check: checkStartOffset,
		Doc: "Where new mirrors begin: at the oldest record of the source, after its newest one, or at the first record that is not older than a time. Existing mirrors do not change, and klink mirrors partitions that are added to a source topic later from their beginning.",
	},
	{
		Name: ConfigAutoCreate, Type: TypeBoolean, Custody: Unconcerned, Default: "false", Importance: "medium",
		Doc: "true: klink creates a mirror for each source topic that auto.create.mirror.topics.filters includes and that has none, within metadata.max.age.ms, but never for internal topics (`__`, `_klink`). It reports a topic of the same name at the destination, and leaves it alone. It deletes nothing. It re-creates a mirror that somebody deletes: exclude its topic first.",
	},
	{
		Name: ConfigAutoCreateFilters, Type: TypeString, Custody: Unconcerned, Importance: "medium", Allowed: "JSON" + filter.Form(filter.TopicField),
		check: func(v string) error { _, err := filter.ParseTopics(v); return err },
		Doc:   "Which source topics klink creates mirrors for: those that match an INCLUDE filter and no EXCLUDE filter. `*` with the patternType LITERAL matches every topic. Without filters there are none.",
	},
})
