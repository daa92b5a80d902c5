package kafkaclient

import "strings"

// Treatment says what klink does with a client property.
type Treatment uint8

const (
	// Unknown: no client of Kafka has such a key, as far as klink knows.
	Unknown Treatment = iota
	// Honoured: klink does what the property says.
	Honoured
	// NoDifference: what the property says makes no difference to what klink does.
	NoDifference
	// Refused: to leave the property out would weaken or change security, or hide a mistake.
	Refused
	// Providers: the property sets up config providers. It counts where references are resolved.
	Providers
)

// rule is what klink does with some keys.
type rule struct {
	treatment Treatment
	keys      []string // in one string, separated by spaces; a key that ends in .* stands for a family
	// note says what the keys are about. Of refused keys it says what to do.
	note string
	// only are the values that are taken, if there are others that are refused. Case does not count.
	only []string
}

func keys(s string) []string { return strings.Fields(s) }

// rules are all keys that klink knows: those of Kafka's clients from 2.4 to 4.3, and what hosters
// of Kafka and other clients add. Only package initialisation writes them.
var rules = []rule{
	{
		Honoured, keys("bootstrap.servers security.protocol client.id"),
		"to whom klink connects, how, and under which name", nil,
	},
	{
		Honoured, keys("request.timeout.ms socket.connection.setup.timeout.ms metadata.max.age.ms"),
		"time-outs", nil,
	},
	{
		Honoured, keys("sasl.mechanism sasl.jaas.config"),
		"the login", nil,
	},
	{
		Honoured, keys("sasl.client.callback.handler.class"),
		"the login module implies it",
		[]string{
			"software.amazon.msk.auth.iam.IAMClientCallbackHandler",
			"org.apache.kafka.common.security.authenticator.SaslClientCallbackHandler",
			"org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerSaslClientCallbackHandler",
		},
	},
	{
		Honoured, keys(`sasl.login.callback.handler.class sasl.login.connect.timeout.ms sasl.login.read.timeout.ms
			sasl.login.retry.backoff.ms sasl.login.retry.backoff.max.ms sasl.login.refresh.window.factor
			sasl.login.refresh.window.jitter sasl.login.refresh.min.period.seconds sasl.login.refresh.buffer.seconds
			sasl.oauthbearer.token.endpoint.url sasl.oauthbearer.scope sasl.oauthbearer.header.urlencode
			sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
			sasl.oauthbearer.jwt.retriever.class sasl.oauthbearer.assertion.algorithm
			sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds
			sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include
			sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub
			sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.private.key.file
			sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.template.file`),
		"tokens of OAUTHBEARER", nil,
	},
	{
		Honoured, keys(`ssl.truststore.type ssl.truststore.location ssl.truststore.password ssl.truststore.certificates
			ssl.endpoint.identification.algorithm`),
		"whom klink trusts", nil,
	},
	{
		Honoured, keys(`ssl.keystore.type ssl.keystore.location ssl.keystore.password ssl.keystore.certificate.chain
			ssl.keystore.key ssl.key.password`),
		"klink's own certificate", nil,
	},
	{
		Honoured, keys("ssl.enabled.protocols ssl.cipher.suites"),
		"versions and ciphers of TLS, as far as they are safe", nil,
	},
	{
		Honoured, keys("ssl.ca.location ssl.certificate.location ssl.key.location ssl.key"),
		"names of librdkafka for PEM files, and for a key in PEM", nil,
	},
	{
		Providers, keys(configProviders + " " + configProviders + ".*"),
		"config providers: see below", nil,
	},

	{
		NoDifference, keys("ssl.protocol"),
		"ssl.enabled.protocols decides; klink uses nothing older than TLS 1.2",
		[]string{"TLS", "TLSv1.2", "TLSv1.3"},
	},
	{
		NoDifference, keys("ssl.provider"),
		"klink uses the TLS of Go, and no provider of Java",
		[]string{"SunJSSE"},
	},
	{
		NoDifference, keys("ssl.keymanager.algorithm ssl.trustmanager.algorithm"),
		"klink checks certificates as PKIX does",
		[]string{"PKIX", "SunX509", "NewSunX509", "IbmX509", "IbmPKIX"},
	},
	{
		NoDifference, keys("ssl.engine.factory.class"),
		"klink loads no classes of Java",
		[]string{"org.apache.kafka.common.security.ssl.DefaultSslEngineFactory"},
	},
	{
		NoDifference, keys("sasl.login.class"),
		"klink loads no classes of Java",
		[]string{
			"org.apache.kafka.common.security.authenticator.DefaultLogin",
			"org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerRefreshingLogin",
		},
	},
	{
		NoDifference, keys("ssl.secure.random.implementation"),
		"klink uses the random numbers of the operating system", nil,
	},
	{
		NoDifference, keys(`sasl.oauthbearer.jwt.validator.class sasl.oauthbearer.clock.skew.seconds
			sasl.oauthbearer.expected.audience sasl.oauthbearer.expected.issuer sasl.oauthbearer.jwks.endpoint.url
			sasl.oauthbearer.jwks.endpoint.refresh.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.ms
			sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms sasl.oauthbearer.scope.claim.name
			sasl.oauthbearer.sub.claim.name`),
		"brokers check tokens with them", nil,
	},
	{
		NoDifference, keys(`sasl.kerberos.service.name sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin
			sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor`),
		"klink does not log in with GSSAPI, and says so if sasl.mechanism is that", nil,
	},
	{
		NoDifference, keys(`client.dns.lookup client.rack connections.max.idle.ms default.api.timeout.ms
			metadata.max.idle.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms
			receive.buffer.bytes send.buffer.bytes reconnect.backoff.ms reconnect.backoff.max.ms retries retry.backoff.ms
			retry.backoff.max.ms socket.connection.setup.timeout.max.ms`),
		"klink has its own way with connections; links honour some of them, see the table of link configs", nil,
	},
	{
		NoDifference, keys(`enable.metrics.push interceptor.classes metric.reporters metrics.num.samples
			metrics.recording.level metrics.sample.window.ms auto.include.jmx.reporter`),
		"what watches a Java client", nil,
	},
	{
		NoDifference, keys(`allow.auto.create.topics auto.commit.interval.ms auto.offset.reset check.crcs enable.auto.commit
			exclude.internal.topics fetch.max.bytes fetch.max.wait.ms fetch.min.bytes group.id group.instance.id group.protocol
			group.remote.assignor heartbeat.interval.ms isolation.level key.deserializer max.partition.fetch.bytes
			max.poll.interval.ms max.poll.records partition.assignment.strategy session.timeout.ms share.acknowledgement.mode
			share.acquire.mode value.deserializer internal.leave.group.on.close
			internal.throw.on.fetch.stable.offset.unsupported`),
		"how a consumer reads", nil,
	},
	{
		NoDifference, keys(`acks batch.size buffer.memory compression.gzip.level compression.lz4.level compression.type
			compression.zstd.level delivery.timeout.ms enable.idempotence key.serializer linger.ms max.block.ms
			max.in.flight.requests.per.connection max.request.size partitioner.adaptive.partitioning.enable
			partitioner.availability.timeout.ms partitioner.class partitioner.ignore.keys transaction.timeout.ms
			transaction.two.phase.commit.enable transactional.id value.serializer internal.auto.downgrade.txn.commit`),
		"how a producer writes", nil,
	},
	{
		NoDifference, keys(`schema.registry.url schema.registry.* basic.auth.credentials.source basic.auth.user.info
			bearer.auth.* auto.register.schemas use.latest.version latest.compatibility.strict avro.use.logical.type.converters
			specific.avro.reader key.subject.name.strategy value.subject.name.strategy json.value.type json.key.type
			confluent.*`),
		"schema registries, serializers and other add-ons; klink neither sends nor stores them", nil,
	},

	{
		Refused, keys("security.providers"),
		"klink uses no security providers of Java: leave it out, if your rules do not demand one", nil,
	},
	{
		Refused, keys("bootstrap.controllers"),
		"klink connects to brokers, not to controllers: set bootstrap.servers", nil,
	},
	{
		Refused, keys("sasl.mechanisms sasl.username sasl.password"),
		"this is a name of librdkafka: set sasl.mechanism and sasl.jaas.config", nil,
	},
	{
		Refused, keys("ssl.ca.pem ssl.certificate.pem ssl.key.pem"),
		"this is a name of librdkafka: set ssl.truststore.certificates, ssl.keystore.certificate.chain and ssl.keystore.key", nil,
	},
	{
		Refused, keys("enable.ssl.certificate.verification ssl.crl.location ssl.curves.list ssl.sigalgs.list"),
		"klink always verifies certificates, without a list of revoked ones, and chooses curves and signatures itself: leave it out, if that will do", nil,
	},
}

// ruleOf finds the rule for each key that does not belong to a family.
var ruleOf = func() map[string]*rule {
	all := map[string]*rule{}
	for i := range rules {
		for _, key := range rules[i].keys {
			all[key] = &rules[i]
		}
	}
	return all
}()

// find returns the rule for a key; nil = there is none.
func find(key string) *rule {
	if r := ruleOf[key]; r != nil && !strings.HasSuffix(key, "*") {
		return r
	}
	for at := strings.LastIndexByte(key, '.'); at > 0; at = strings.LastIndexByte(key[:at], '.') {
		if r := ruleOf[key[:at]+".*"]; r != nil && at < len(key)-1 {
			return r
		}
	}
	return nil
}
