// Package config holds the settings of `klink serve`. One table defines them all. Each is a flag
// (--max-connections), an environment variable (KLINK_MAX_CONNECTIONS) and a key of the YAML file
// (max-connections). A flag wins over the environment, the environment over the file, the file over
// the default.
package config

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Serve are the settings of one klink process. Sizes are in bytes.
type Serve struct {
	Destination         []string   // HOST:PORT of destination brokers
	DestinationConfig   string     // Java client properties, "" = none
	OwnPrincipal        string     // TYPE:NAME, "" = what DestinationConfig tells
	Listeners           []Listener // at least one
	HTTP                string     // HOST:PORT of metrics and health, "" = off
	PProf               bool
	Config              string // YAML file, "" = none
	MaxRequestBytes     int64
	MaxConnections      int64 // 0 = no limit
	MaxConnectionsPerIP int64 // 0 = no limit
	MaxConnectionsRate  int64 // new connections a second, 0 = no limit
	RequestMemory       int64
	LoginTimeout        time.Duration
	FrameTimeout        time.Duration
	IdleTimeout         time.Duration
	DialTimeout         time.Duration
	DrainTimeout        time.Duration
	Identity
	SecretsKeyFile        string
	AllowPlaintextSecrets bool
	LinkAdmin             string   // on, read or off
	LinkFileDirectories   []string // directories whose files configs of links may name
	LinkAWSCredentials    string   // on or off
	LinkTokenEndpoints    []string // token endpoints that links may use; none = all that are https
	ReplicatorMemory      int64
	InstanceID            string // "" = host name and address of --listen
	SessionTimeout        time.Duration
	StateLease            time.Duration
	LogLevel              slog.Level
	LogFormat             string // text or json

	given listenerSettings // what Listeners was made from
}

// Setting is one row of the table.
type Setting struct {
	Name    string // of the flag and of the YAML key
	Type    string // in the syntax of a value; "" = none
	Default string // as it would be written; "" = none
	Doc     string
	// set parses s into c. Its error says what is wrong, without the setting's name.
	set func(c *Serve, s string) error
}

// Env returns the name of the setting's environment variable.
func (s Setting) Env() string {
	return "KLINK_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Settings is the table, in the order of help and documentation.
var Settings = []Setting{
	{
		"destination", "host:port,...", "", "Brokers of the destination cluster that klink connects to first, comma separated. Can also be set as bootstrap.servers in --destination-config.",
		func(c *Serve, s string) error { return setAddresses(&c.Destination, s) },
	},
	{
		"destination-config", "file", "", "Java client properties with which klink itself connects to the destination: security.protocol, sasl.*, ssl.*. Clients authenticate themselves through klink with their own credentials.",
		func(c *Serve, s string) error { c.DestinationConfig = s; return nil },
	},
	{
		"own-principal", "type:name", "", "klink's principal at the destination's brokers, such as User:klink. klink never copies ACLs for it from a source. Default: the user or the certificate's subject in --destination-config; must be set if the brokers have principal mapping rules or a custom principal builder, or if klink logs in with a delegation token, OAUTHBEARER or AWS_MSK_IAM.",
		func(c *Serve, s string) error { return setPrincipal(&c.OwnPrincipal, s) },
	},
	{
		"listen", "[name=]host:port,...", "127.0.0.1:19092", "Address that clients bootstrap from, or several with a name each: internal=HOST:PORT,external=HOST:PORT. The settings of listeners take one value for all, or name=value,... Each destination broker gets a port above it: +1, +2, ... in the order of broker ids; brokers that are added later get the next free port.",
		func(c *Serve, s string) error { return setListeners(&c.given.listen, s) },
	},
	{
		"advertise", "[name=]host,...", "", "Host name or address that klink advertises to clients, by listener. Default: the host of --listen; must be set if that is a wildcard (0.0.0.0).",
		func(c *Serve, s string) error { return setPerListener(&c.given.advertise, s, false, anyText) },
	},
	{
		"advertise-port", "[name=]port,...", "", "Port at which clients reach the port of --listen, by listener, if something in front of klink maps ports; the ports of brokers differ by as much. Default: the port of --listen.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.advertisePort, s, false, func(v string) error { _, err := parsePort(v); return err })
		},
	},
	{
		"broker-ports", "[name=]first-last,...", "", "Ports of the destination's brokers, by listener, such as external=9093-9192. Default: the ports after the one of --listen, up to the next that another listener has.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.brokerPorts, s, false, func(v string) error { _, _, err := parsePorts(v); return err })
		},
	},
	{
		"http", "host:port", "", "Address that serves /metrics (Prometheus), /healthz and /readyz. Without a host, only on 127.0.0.1: give 0.0.0.0 for all addresses. Default: none.",
		func(c *Serve, s string) error { return setLocal(&c.HTTP, s) },
	},
	{
		"pprof", "bool", "false", "Serve Go profiles under /debug/pprof/ on --http.",
		func(c *Serve, s string) error { return setBool(&c.PProf, s) },
	},
	{
		"config", "file", "", "YAML file with any of these settings except this one.",
		func(c *Serve, s string) error { c.Config = s; return nil },
	},
	{
		"max-request-bytes", "size", "100MiB", "Largest request of a client; a client that sends a larger one is disconnected. Like a broker's socket.request.max.bytes.",
		func(c *Serve, s string) error { return setSize(&c.MaxRequestBytes, s, 1<<10, 1<<31-1) },
	},
	{
		"max-connections", "int", "10000", "Largest number of client connections; 0 means no limit. Each needs two file descriptors.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnections, s, 0, 1<<31-1) },
	},
	{
		"max-connections-per-ip", "int", "0", "Largest number of client connections from one IP address (IPv6: from one /64 network); 0 means no limit. klink closes further ones at once. Like a broker's max.connections.per.ip.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnectionsPerIP, s, 0, 1<<31-1) },
	},
	{
		"max-connections-rate", "int", "0", "How many client connections klink accepts per second; 0 means no limit. Further ones wait their turn. Like a broker's max.connection.creation.rate.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnectionsRate, s, 0, 1_000_000) },
	},
	{
		"request-memory", "size", "512MiB", "Memory for requests of all clients: what they have sent and klink has not passed on to a broker yet. Clients that have not logged in share a part. A connection whose request does not fit waits. At least 16MiB, and at least twice --max-request-bytes. Like a broker's queued.max.request.bytes.",
		func(c *Serve, s string) error { return setSize(&c.RequestMemory, s, 16<<20, 1<<50) },
	},
	{
		"login-timeout", "duration", "30s", "Close a client connection that has not logged in after this time; if the destination needs no login, one that has sent no request.",
		func(c *Serve, s string) error { return setDuration(&c.LoginTimeout, s, time.Second) },
	},
	{
		"frame-timeout", "duration", "1m", "Close a client connection that has not completed a request this long after beginning it.",
		func(c *Serve, s string) error { return setDuration(&c.FrameTimeout, s, time.Second) },
	},
	{
		"idle-timeout", "duration", "10m", "Close a client connection that has been idle for this long. Like a broker's connections.max.idle.ms.",
		func(c *Serve, s string) error { return setDuration(&c.IdleTimeout, s, time.Second) },
	},
	{
		"dial-timeout", "duration", "10s", "How long connecting to a destination broker may take, TLS included.",
		func(c *Serve, s string) error { return setDuration(&c.DialTimeout, s, 10*time.Millisecond) },
	},
	{
		"drain-timeout", "duration", "30s", "How long requests and appends in flight may take to finish after SIGTERM.",
		func(c *Serve, s string) error { return setDuration(&c.DrainTimeout, s, 0) },
	},
	{
		"tls-cert-file", "[name=]file,...", "", "PEM certificate chain for client connections, by listener; if set, clients must use TLS. klink reads it and --tls-key-file again when they change.",
		func(c *Serve, s string) error { return setPerListener(&c.given.certFile, s, false, anyText) },
	},
	{
		"tls-key-file", "[name=]file,...", "", "PEM private key of --tls-cert-file, not encrypted, by listener.",
		func(c *Serve, s string) error { return setPerListener(&c.given.keyFile, s, false, anyText) },
	},
	{
		"tls-min-version", "[name=]version,...", "TLSv1.2", "Oldest TLS version that clients may use, by listener: TLSv1.2 or TLSv1.3.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.minVersion, s, false, func(v string) error { _, err := parseTLSVersion(v); return err })
		},
	},
	{
		"tls-cipher-suites", "[name=]suite,...", "", "Cipher suites of TLS 1.2 that clients may use, by listener, by their IANA names. Only secure ones can be named; klink chooses among them. Those of TLS 1.3 are all secure and cannot be chosen. Default: all secure ones with forward secrecy.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.ciphers, s, true, func(v string) error { _, err := parseCipherSuite(v); return err })
		},
	},
	{
		"sni-broker", "[name=]pattern,...", "", "Names of the destination's brokers on one port, by listener, such as broker-{id}.klink.example: klink advertises each broker at its name and the port of --listen, and sends clients where the server name of their TLS handshake (SNI) says; --advertise is the name to bootstrap from. All names must lead to klink, and be in the certificate. Default: none, so each broker has its own port.",
		func(c *Serve, s string) error { return setPerListener(&c.given.sniBroker, s, false, checkPattern) },
	},
	{
		"proxy-protocol-from", "[name=]network,...", "", "Addresses or networks of load balancers that send the PROXY protocol, version 2, by listener, such as external=10.1.0.0/16,10.2.0.7. Their connections must begin with its header, and the client's address in it counts for --max-connections-per-ip and in logs. List only load balancers: whoever is listed can claim any address. Default: none.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.proxyFrom, s, true, func(v string) error { _, err := parsePrefix(v); return err })
		},
	},
	{
		"ssl-client-auth", "[name=]none|requested|required,...", "none", "Whether clients show a certificate, by listener, which one of --ssl-client-ca-file must have signed. With --credential-map-file the certificate says who the client is; without, clients still log in at the brokers as themselves. Like a broker's ssl.client.auth.",
		func(c *Serve, s string) error {
			return setPerListener(&c.given.clientAuth, s, false, func(v string) error {
				return setOneOf(new(string), v, ClientAuthNone, ClientAuthRequested, ClientAuthRequired)
			})
		},
	},
	{
		"ssl-client-ca-file", "file", "", "PEM certificates of the authorities that sign clients' certificates. Read again when it changes.",
		func(c *Serve, s string) error { c.SSLClientCAFile = s; return nil },
	},
	{
		"ssl-principal-mapping-rules", "rule,...", "", "How the subject of a client's certificate becomes the name of a principal: DEFAULT, or RULE:pattern/replacement/ with L or U behind it for lower or upper case. Like a broker's ssl.principal.mapping.rules; flags, lookaround and other things that only Java's patterns have are refused. Default: the subject as it is.",
		func(c *Serve, s string) error { return setRules(&c.PrincipalMappingRules, s) },
	},
	{
		"authentication", "pass-through|terminate", "pass-through", "Who authenticates clients: pass-through = the brokers, to which klink passes on logins; terminate = klink, by --sasl-enabled-mechanisms. klink then logs in at the brokers with what --credential-map-file has for the client.",
		func(c *Serve, s string) error {
			return setOneOf(&c.Authentication, s, AuthenticationPassThrough, AuthenticationTerminate)
		},
	},
	{
		"credential-map-file", "file", "", "YAML file that says as whom klink logs in at the destination for each principal that klink has authenticated, by SASL or by certificate. A principal without an entry is refused. Read again when it changes; connections whose entry is gone or has changed are closed.",
		func(c *Serve, s string) error { c.CredentialMapFile = s; return nil },
	},
	{
		"sasl-enabled-mechanisms", "name,...", "SCRAM-SHA-512,SCRAM-SHA-256", "SASL mechanisms with which clients log in at klink under --authentication terminate, of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER. Like a broker's sasl.enabled.mechanisms.",
		func(c *Serve, s string) error {
			return setSomeOf(&c.SASLMechanisms, s, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
		},
	},
	{
		"sasl-credentials-file", "file", "", "File of `klink credentials` with the users of PLAIN and SCRAM under --authentication terminate. Read again when it changes.",
		func(c *Serve, s string) error { c.SASLCredentialsFile = s; return nil },
	},
	{
		"oauth-jwks-url", "url", "", "Keys that access tokens of OAUTHBEARER are signed with, as a JWKS document: https://HOST/PATH or file:///PATH. Like a broker's sasl.oauthbearer.jwks.endpoint.url.",
		func(c *Serve, s string) error { c.OAuthJWKSURL = s; return nil },
	},
	{
		"oauth-expected-audience", "text,...", "", "Audiences of which an access token must name one. Default: not checked. Like a broker's sasl.oauthbearer.expected.audience.",
		func(c *Serve, s string) error { c.OAuthAudiences = splitList(s); return nil },
	},
	{
		"oauth-expected-issuer", "text", "", "Issuer that an access token must name. Default: not checked. Like a broker's sasl.oauthbearer.expected.issuer.",
		func(c *Serve, s string) error { c.OAuthIssuer = s; return nil },
	},
	{
		"oauth-sub-claim-name", "text", "sub", "Claim of an access token that has the client's name. Like a broker's sasl.oauthbearer.sub.claim.name.",
		func(c *Serve, s string) error { c.OAuthNameClaim = s; return nil },
	},
	{
		"secrets-key-file", "file", "", "Key that encrypts the secrets of links in the state topic: 32 bytes, as base64 or hex.",
		func(c *Serve, s string) error { c.SecretsKeyFile = s; return nil },
	},
	{
		"allow-plaintext-secrets", "bool", "false", "Store secrets of links unencrypted when there is no --secrets-key-file. Anyone who may read the state topic can then read them.",
		func(c *Serve, s string) error { return setBool(&c.AllowPlaintextSecrets, s) },
	},
	{
		"link-admin", "on|read|off", "on", "What clients may do with links and mirrors, if the destination's authorizer allows it: on = all; read = list and describe, change nothing; off = nothing, and the link API is not offered. This includes mirrors by topic configs (mirror.link, mirror.state).",
		func(c *Serve, s string) error { return setOneOf(&c.LinkAdmin, s, "on", "read", "off") },
	},
	{
		"link-file-directories", "dir,...", "", "Directories of the files that link configs may name (ssl.truststore.location, ssl.ca.location, ssl.keystore.location, sasl.oauthbearer.token.endpoint.url, and ${file:PATH:KEY} and ${dir:PATH:NAME} in secrets), comma separated: anyone who may create links can make klink read these files, and send an access token that is in one to a server of his own. Only regular files of at most 1 MiB; keep klink's own keys elsewhere. Default: none, so links must have the PEM text in their configs.",
		func(c *Serve, s string) error { c.LinkFileDirectories = splitList(s); return nil },
	},
	{
		"link-aws-credentials", "on|off", "off", "Whether links with AWS_MSK_IAM may use the AWS credentials of klink's machine: environment, profiles, instance role, and the roles that these may assume. on: anyone who may create links can read with them from any MSK cluster. off: a link needs awsRoleArn with an access key of its own.",
		func(c *Serve, s string) error { return setOneOf(&c.LinkAWSCredentials, s, "on", "off") },
	},
	{
		"link-token-endpoints", "url,...", "", "Token endpoints that links may use (sasl.oauthbearer.token.endpoint.url), comma separated: anyone who may create links can make klink send requests there. Each must be given whole, as the link has it. Like Kafka's org.apache.kafka.sasl.oauthbearer.allowed.urls. Default: any whose URL is https.",
		func(c *Serve, s string) error { c.LinkTokenEndpoints = splitList(s); return nil },
	},
	{
		"replicator-memory", "size", "256MiB", "Memory of the replicator for all links: record data fetched but not yet appended.",
		func(c *Serve, s string) error { return setSize(&c.ReplicatorMemory, s, 1<<20, 1<<50) },
	},
	{
		"instance-id", "text", "", "Name of this process, unique among the klink processes of one destination. A process that was killed and is started again with the same name takes its work back at once. Default: the host name and the address of the first listener.",
		func(c *Serve, s string) error { return setName(&c.InstanceID, s) },
	},
	{
		"session-timeout", "duration", "6s", "How long a process may show no sign of life before the others take over its work. Must be between group.min.session.timeout.ms (6 s by default) and group.max.session.timeout.ms of the destination's brokers.",
		func(c *Serve, s string) error { return setDuration(&c.SessionTimeout, s, 500*time.Millisecond) },
	},
	{
		"state-lease", "duration", "10s", "How long a process that can no longer read the state topic relies on what it has read. After that, produce requests to mirrors wait; if the process has also left the group of instances, all produce requests wait. A dead process delays the next mirror that the others create by this time.",
		func(c *Serve, s string) error { return setDurationUpTo(&c.StateLease, s, time.Second, 5*time.Minute) },
	},
	{
		"log-level", "debug|info|warn|error", "info", "Lowest level of log lines that klink writes.",
		func(c *Serve, s string) error { return setLogLevel(&c.LogLevel, s) },
	},
	{
		"log-format", "text|json", "text", "Format of log lines, on standard error.",
		func(c *Serve, s string) error { return setOneOf(&c.LogFormat, s, "text", "json") },
	},
}

// Error reports a wrong value or an unknown key.
type Error struct {
	Setting string // name of the setting, or key in the file
	Origin  string // where the value came from: "flag --x", "environment KLINK_X", "file F"; "" for a missing value
	Problem string
}

func (e *Error) Error() string {
	if e.Origin == "" {
		return fmt.Sprintf("%s: %s", e.Setting, e.Problem)
	}
	return fmt.Sprintf("%s: %s (from %s)", e.Setting, e.Problem, e.Origin)
}
