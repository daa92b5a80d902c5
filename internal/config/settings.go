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
	Destination           []string // HOST:PORT of destination brokers
	DestinationConfig     string   // TYPE:NAME, "" = as found in DestinationConfig
	OwnPrincipal          string   // TYPE:NAME, "" = what DestinationConfig tells
	Listen                string   // host name that klink gives to clients, never ""
	Advertise             string   // host name that clients are told, never ""
	HTTP                  string   // HOST:PORT of metrics and health, "" = off
	PProf                 bool
	Config                string // YAML file, "" = none
	MaxRequestBytes       int64
	MaxConnections        int64 // 0 = no limit
	MaxConnectionsPerIP   int64 // 0 = no limit
	MaxConnectionsRate    int64 // new connections a second, 0 = no limit
	RequestMemory         int64
	LoginTimeout          time.Duration
	FrameTimeout          time.Duration
	IdleTimeout           time.Duration
	DialTimeout           time.Duration
	DrainTimeout          time.Duration
	TLSCertFile           string
	TLSKeyFile            string
	SecretsKeyFile        string
	AllowPlaintextSecrets bool
	LinkAdmin             string   // on, read or off
	LinkFileDirectories   []string // directories whose files configs of links may name
	ReplicatorMemory      int64
	InstanceID            string // "" = host name and address of --listen
	SessionTimeout        time.Duration
	StateLease            time.Duration
	LogLevel              slog.Level
	LogFormat             string // text or json
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
		"destination", "host:port,...", "", "Brokers of the destination cluster to start from, comma separated. May also stand in --destination-config as bootstrap.servers.",
		func(c *Serve, s string) error { return setAddresses(&c.Destination, s) },
	},
	{
		"destination-config", "file", "", "Java client properties with which klink itself connects to the destination: security.protocol, sasl.*, ssl.*. Clients authenticate themselves through klink with their own credentials.",
		func(c *Serve, s string) error { c.DestinationConfig = s; return nil },
	},
	{
		"own-principal", "type:name", "", "Whom the destination's brokers take klink for, such as User:klink. ACLs for it are never copied from a source. Default: the user or the certificate's subject of --destination-config; must be set where brokers have mapping rules or a principal builder of their own, or klink logs in with a delegation token.",
		func(c *Serve, s string) error { return setPrincipal(&c.OwnPrincipal, s) },
	},
	{
		"listen", "host:port", "127.0.0.1:19092", "Where clients bootstrap. Each destination broker gets a port above it: + 1, + 2, ... in the order of broker ids; brokers that appear later get the next free port.",
		func(c *Serve, s string) error { return setListen(&c.Listen, s) },
	},
	{
		"advertise", "host", "", "Host name or address that clients are told. Default: the host of --listen; must be set when that is a wildcard (0.0.0.0).",
		func(c *Serve, s string) error { c.Advertise = s; return nil },
	},
	{
		"http", "host:port", "", "Where /metrics (Prometheus), /healthz and /readyz are served. Without a host, on 127.0.0.1 only: give 0.0.0.0 for all addresses. Default: nowhere.",
		func(c *Serve, s string) error { return setLocal(&c.HTTP, s) },
	},
	{
		"pprof", "bool", "false", "Serve Go profiles under /debug/pprof/ on --http.",
		func(c *Serve, s string) error { return setBool(&c.PProf, s) },
	},
	{
		"config", "file", "", "YAML file with any of these settings but this one.",
		func(c *Serve, s string) error { c.Config = s; return nil },
	},
	{
		"max-request-bytes", "size", "100MiB", "Largest request of a client; a larger one closes its connection. As a broker's socket.request.max.bytes.",
		func(c *Serve, s string) error { return setSize(&c.MaxRequestBytes, s, 1<<10, 1<<31-1) },
	},
	{
		"max-connections", "int", "10000", "Largest number of client connections; 0 means no limit. Each takes two file descriptors.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnections, s, 0, 1<<31-1) },
	},
	{
		"max-connections-per-ip", "int", "0", "Largest number of client connections of one IP address (of IPv6: of one /64 network); 0 means no limit. More are closed at once. As a broker's max.connections.per.ip.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnectionsPerIP, s, 0, 1<<31-1) },
	},
	{
		"max-connections-rate", "int", "0", "How many client connections are accepted in a second; 0 means no limit. More wait for their turn. As a broker's max.connection.creation.rate.",
		func(c *Serve, s string) error { return setInt(&c.MaxConnectionsRate, s, 0, 1_000_000) },
	},
	{
		"request-memory", "size", "512MiB", "Byte budget for requests over all client connections: what clients have sent and no broker has taken yet. Clients that have not logged in get a part of it. A connection whose request does not fit waits. At least twice --max-request-bytes, and 16MiB. As a broker's queued.max.request.bytes.",
		func(c *Serve, s string) error { return setSize(&c.RequestMemory, s, 16<<20, 1<<50) },
	},
	{
		"login-timeout", "duration", "30s", "Close a client connection that has not logged in for so long; where the destination wants no login, one that has sent no request.",
		func(c *Serve, s string) error { return setDuration(&c.LoginTimeout, s, time.Second) },
	},
	{
		"frame-timeout", "duration", "1m", "Close a client connection whose request has begun and is not complete for so long.",
		func(c *Serve, s string) error { return setDuration(&c.FrameTimeout, s, time.Second) },
	},
	{
		"idle-timeout", "duration", "10m", "Close a client connection on which nothing has happened for so long. As a broker's connections.max.idle.ms.",
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
		"tls-cert-file", "file", "", "PEM certificate chain for clients; with it clients must use TLS.",
		func(c *Serve, s string) error { c.TLSCertFile = s; return nil },
	},
	{
		"tls-key-file", "file", "", "PEM private key of --tls-cert-file.",
		func(c *Serve, s string) error { c.TLSKeyFile = s; return nil },
	},
	{
		"secrets-key-file", "file", "", "Key that encrypts the secrets of links in the state topic: 32 bytes, as base64 or hex.",
		func(c *Serve, s string) error { c.SecretsKeyFile = s; return nil },
	},
	{
		"allow-plaintext-secrets", "bool", "false", "Store secrets of links unencrypted when there is no --secrets-key-file. Whoever may read the state topic reads them.",
		func(c *Serve, s string) error { return setBool(&c.AllowPlaintextSecrets, s) },
	},
	{
		"link-admin", "on|read|off", "on", "What clients may do with links and mirrors, if the destination's authorizer allows it: on = all; read = list and describe, change nothing; off = nothing, and the link API is not offered. Mirrors by topic configs (mirror.link, mirror.state) count, too.",
		func(c *Serve, s string) error { return setOneOf(&c.LinkAdmin, s, "on", "read", "off") },
	},
	{
		"link-file-directories", "dir,...", "", "Directories that configs of links may name files in (ssl.truststore.location, ssl.ca.location, ssl.keystore.location), comma separated: whoever may create links has klink read those. Regular files of at most 1 MiB; keep klink's own keys elsewhere. Default: none, so links have their PEM text in their configs.",
		func(c *Serve, s string) error { c.LinkFileDirectories = splitList(s); return nil },
	},
	{
		"replicator-memory", "size", "256MiB", "Byte budget of the replicator over all links: record data fetched and not yet appended.",
		func(c *Serve, s string) error { return setSize(&c.ReplicatorMemory, s, 1<<20, 1<<50) },
	},
	{
		"instance-id", "text", "", "Name of this process among those on one destination, no two of which may have the same. A process that was killed and is started again under its name takes its work back at once. Default: the host name and the address of --listen.",
		func(c *Serve, s string) error { return setName(&c.InstanceID, s) },
	},
	{
		"session-timeout", "duration", "6s", "After how long without a sign of life the work of a process is given to the others. Must lie between group.min.session.timeout.ms (6 s by default) and group.max.session.timeout.ms of the destination's brokers.",
		func(c *Serve, s string) error { return setDuration(&c.SessionTimeout, s, 500*time.Millisecond) },
	},
	{
		"state-lease", "duration", "10s", "How long a process that cannot read the state topic any more goes on by what it has read. Then produces wait: those to mirrors, and, where the process is not counted in the group of instances either, all. A process that has died holds up the next mirror that the others create for so long.",
		func(c *Serve, s string) error { return setDurationUpTo(&c.StateLease, s, time.Second, 5*time.Minute) },
	},
	{
		"log-level", "debug|info|warn|error", "info", "Least severe log lines that are written.",
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
