// Package config has the settings of `klink serve`. One table defines them all; each is a flag (--max-connections), an
// environment variable (KLINK_MAX_CONNECTIONS) and a key of the YAML file (max-connections). A flag wins over the
// environment, that over the file, that over the default.
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
	DestinationConfig     string   // file of Java client properties, "" = none
	Listen                string   // HOST:PORT of the bootstrap listener
	Advertise             string   // host name that clients are told, never ""
	HTTP                  string   // HOST:PORT of metrics and health, "" = off
	PProf                 bool
	Config                string // YAML file, "" = none
	MaxRequestBytes       int64
	MaxConnections        int64 // 0 = no limit
	IdleTimeout           time.Duration
	DialTimeout           time.Duration
	DrainTimeout          time.Duration
	TLSCertFile           string
	TLSKeyFile            string
	SecretsKeyFile        string
	AllowPlaintextSecrets bool
	ReplicatorMemory      int64
	InstanceID            string // "" = host name and address of --listen
	SessionTimeout        time.Duration
	LogLevel              slog.Level
	LogFormat             string // text or json
}

// Setting is one row of the table.
type Setting struct {
	Name    string // of the flag and of the YAML key
	Type    string // as shown to people: host:port, file, size, duration, bool, ...
	Default string // as it would be written; "" = none
	Doc     string
	// set parses s into c. Its error says what is wrong, without the setting's name.
	set func(c *Serve, s string) error
}

// Env is the environment variable of the setting.
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
		"listen", "host:port", "127.0.0.1:19092", "Where clients bootstrap. Each destination broker gets a port above it: + 1, + 2, ... in the order of broker ids; brokers that appear later get the next free port.",
		func(c *Serve, s string) error { return setListen(&c.Listen, s) },
	},
	{
		"advertise", "host", "", "Host name or address that clients are told. Default: the host of --listen; must be set when that is a wildcard (0.0.0.0).",
		func(c *Serve, s string) error { c.Advertise = s; return nil },
	},
	{
		"http", "host:port", "", "Where /metrics (Prometheus), /healthz and /readyz are served. Default: nowhere.",
		func(c *Serve, s string) error { return setListen(&c.HTTP, s) },
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
		"log-level", "debug|info|warn|error", "info", "Least severe log lines that are written.",
		func(c *Serve, s string) error { return setLogLevel(&c.LogLevel, s) },
	},
	{
		"log-format", "text|json", "text", "Format of log lines, on standard error.",
		func(c *Serve, s string) error { return setOneOf(&c.LogFormat, s, "text", "json") },
	},
}

// Error is a wrong value, or an unknown key.
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
