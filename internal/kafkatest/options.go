package kafkatest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The user that may do everything on a cluster with authentication.
const (
	SuperUser         = "admin"
	SuperUserPassword = "admin-secret"
)

// Option shapes a cluster before it starts.
type Option func(*options)

type options struct {
	brokers  int
	configs  map[string]string
	protocol string            // security.protocol of the client listener
	users    map[string]string // name to password, for SASL/PLAIN; nil without SASL
	// clientAuth is ssl.client.auth of the client listener; empty = none.
	clientAuth string
	// authorizer is set if principals come from certificates. With SASL the authorizer is always
	// on.
	authorizer bool
	scram      []scramUser
	issuer     *Issuer       // of tokens for OAUTHBEARER; nil = none
	reauth     time.Duration // connections.max.reauth.ms of OAUTHBEARER
	heap       string
	jvm        []string
	faults     bool
	// replicationFaults: there are fault proxies between the brokers.
	replicationFaults bool
	racks             bool
	// listeners are the listeners beside the client listener.
	listeners []listener
	training  bool // the cluster only trains an archive; it is no proof
}

type scramUser struct{ mechanism, name, password string }

func newOptions(opts []Option) (*options, error) {
	o := &options{brokers: 1, protocol: "PLAINTEXT", heap: "512m", configs: map[string]string{}}
	for _, opt := range opts {
		opt(o)
	}
	if o.brokers < 1 {
		return nil, fmt.Errorf("kafkatest: Brokers(%d): a cluster has at least one", o.brokers)
	}
	return o, o.check()
}

func (o *options) sasl() bool { return strings.HasPrefix(o.protocol, "SASL_") }
func (o *options) tls() bool  { return strings.HasSuffix(o.protocol, "SSL") }

// replication returns the default replication factor, and inSync the default min.insync.replicas.
func (o *options) replication() int { return min(o.brokers, 3) }
func (o *options) inSync() int      { return max(1, o.replication()-1) }

// Brokers sets the number of nodes; each is broker and controller. With three or more nodes the
// default replication factor is 3 and min.insync.replicas 2, for Kafka's internal topics too.
// Default 1.
func Brokers(n int) Option { return func(o *options) { o.brokers = n } }

// Config sets a broker config on all nodes, and overrides this package's choice.
func Config(key, value string) Option { return func(o *options) { o.configs[key] = value } }

// Racks puts each broker into a rack of its own, "rack-" and its id, and lets consumers read from a
// follower in theirs (KIP-392).
func Racks() Option { return func(o *options) { o.racks = true } }

// SASL makes the client listener SASL_SSL with mechanism PLAIN and turns the StandardAuthorizer on.
// Users are given as name, password, name, password, ...; they may do nothing until an ACL says so.
// [SuperUser] always exists.
func SASL(nameAndPassword ...string) Option {
	return func(o *options) { o.secure("SASL_SSL", nameAndPassword) }
}

// SASLPlaintext is [SASL] without TLS.
func SASLPlaintext(nameAndPassword ...string) Option {
	return func(o *options) { o.secure("SASL_PLAINTEXT", nameAndPassword) }
}

func (o *options) secure(protocol string, nameAndPassword []string) {
	if len(nameAndPassword)%2 != 0 {
		panic("kafkatest: users are given as name, password, name, password, ...")
	}
	o.protocol = protocol
	users := map[string]string{SuperUser: SuperUserPassword}
	maps.Copy(users, o.users)
	for i := 0; i < len(nameAndPassword); i += 2 {
		users[nameAndPassword[i]] = nameAndPassword[i+1]
	}
	o.users = users
}

// SSL makes the client listener SSL, without client authentication or authorizer.
func SSL() Option { return func(o *options) { o.protocol = "SSL" } }

// MutualTLS makes the client listener SSL with ssl.client.auth=required and turns the
// StandardAuthorizer on. The common name of a certificate is the principal:
// [Cluster.ClientCertificate] makes one for "User:NAME". Users except [SuperUser] may do nothing
// until an ACL says so. The Client and Properties functions of [Cluster] present the certificate of
// the user they are given. Only for KRaft clusters.
func MutualTLS() Option {
	return func(o *options) { o.protocol, o.clientAuth, o.authorizer = "SSL", "required", true }
}

// ClientAuth sets ssl.client.auth (requested or required) of a client listener with TLS. It must
// come after [SSL], [SASL] or [MutualTLS]. On a listener without SASL a client without a
// certificate is User:ANONYMOUS. With an authorizer that is a super user, because brokers trust
// each other by that name.
func ClientAuth(mode string) Option { return func(o *options) { o.clientAuth = mode } }

// Scram adds a user that authenticates with SCRAM-SHA-256 or SCRAM-SHA-512. It goes with [SASL] or
// [SASLPlaintext].
func Scram(mechanism, name, password string) Option {
	return func(o *options) { o.scram = append(o.scram, scramUser{mechanism, name, password}) }
}

// Heap sets the largest heap of a broker, as java's -Xmx takes it. Default 512m.
func Heap(size string) Option { return func(o *options) { o.heap = size } }

// JVM replaces the flags that make a broker start fast (a single compiler tier, the serial
// collector) by the given flags, for measurements.
func JVM(flags ...string) Option { return func(o *options) { o.jvm = flags } }

// WithFaults puts a [Faults] in front of the client listener of each broker and advertises its
// address, so that every client goes through it; see [Broker.Faults]. Brokers talk to each other
// directly.
func WithFaults() Option { return func(o *options) { o.faults = true } }

// WithReplicationFaults puts a [Faults] in front of the internal listener of each broker and
// advertises its address, so that the other brokers replicate through it; see
// [Broker.ReplicationFaults]. Controllers talk to each other directly. KRaft clusters only.
func WithReplicationFaults() Option { return func(o *options) { o.replicationFaults = true } }

// listener is a listener that [Listener] adds. Its port comes after the other ports of its broker,
// in the order of the listeners.
type listener struct{ name, protocol, advertised string }

// Listener adds a listener to the broker, for a proxy in front of it. A client that bootstraps
// there gets the advertised address (host:port), and so stays with the proxy. If advertised is
// empty, each broker advertises the listener's own address. The protocol is PLAINTEXT or SSL
// without client authentication. Only for KRaft clusters. See [Broker.ListenerAddr].
func Listener(name, protocol, advertised string) Option {
	return func(o *options) { o.listeners = append(o.listeners, listener{name, protocol, advertised}) }
}

// certified reports whether the brokers need certificates.
func (o *options) certified() bool {
	return o.tls() || slices.ContainsFunc(o.listeners, func(l listener) bool { return l.protocol == "SSL" })
}

// check returns an error if the options cannot go together.
func (o *options) check() error {
	if o.clientAuth != "" && !o.tls() {
		return fmt.Errorf("kafkatest: ClientAuth(%q): the client listener has no TLS", o.clientAuth)
	}
	if o.issuer != nil && !o.sasl() {
		return fmt.Errorf("kafkatest: OAuthBearer: the client listener has no SASL")
	}
	for i, l := range o.listeners {
		switch {
		case o.brokers != 1 && l.advertised != "":
			return fmt.Errorf("kafkatest: listener %s: an address can be advertised for a cluster of one broker only", l.name)
		case l.protocol != "PLAINTEXT" && l.protocol != "SSL":
			return fmt.Errorf("kafkatest: listener %s: protocol %q is neither PLAINTEXT nor SSL", l.name, l.protocol)
		case slices.Contains([]string{"CLIENT", "INTERNAL", "CONTROLLER"}, l.name) || l.name == "" || l.name != strings.ToUpper(l.name):
			return fmt.Errorf("kafkatest: listener %q: the name is taken, empty or not in capitals", l.name)
		case slices.ContainsFunc(o.listeners[:i], func(m listener) bool { return m.name == l.name }):
			return fmt.Errorf("kafkatest: listener %s is added twice", l.name)
		}
	}
	return nil
}
