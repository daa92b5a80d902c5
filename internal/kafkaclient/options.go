package kafkaclient

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The values of security.protocol.
const (
	protocolPlaintext     = "PLAINTEXT"
	protocolSSL           = "SSL"
	protocolSASLPlaintext = "SASL_PLAINTEXT"
	protocolSASLSSL       = "SASL_SSL"
)

var protocols = []string{protocolPlaintext, protocolSSL, protocolSASLPlaintext, protocolSASLSSL}

// FreshMetadata keeps kadm from answering with metadata that is up to five seconds old: it is for
// clients by which one finds out whether a topic exists now, and how many partitions it has.
var FreshMetadata = kgo.MetadataMinAge(10 * time.Millisecond)

// metadataMinAge is the default of Java's retry.backoff.ms.
const metadataMinAge = 100 * time.Millisecond

// Options turns p into franz-go options: seed brokers if bootstrap.servers is set, TLS, SASL,
// client id, time-outs. An error names the wrong key. Properties may name any file.
//
// Clients made from these options check everything that a broker sends: see guard. Options that
// come from one call share one bound on unfinished responses, so use them for one cluster only. Use
// DialTimeout to change how long a connection may take.
func (p Properties) Options() ([]kgo.Opt, error) { return p.OptionsFrom(operatorFiles) }

// OptionsFrom is Options for properties that may name only the given files.
func (p Properties) OptionsFrom(files Files) ([]kgo.Opt, error) {
	// Like a Java client, ask for metadata again after retry.backoff.ms when a topic or a leader is
	// missing. franz-go's default of 5 s would be felt after every topic that was just created.
	opts := []kgo.Opt{kgo.MetadataMinAge(metadataMinAge), MaxInflated(batch.MaxInflated)}
	seeds, err := p.Seeds()
	if err != nil {
		return nil, err
	}
	if len(seeds) > 0 {
		opts = append(opts, kgo.SeedBrokers(seeds...))
	}
	tlsConfig, err := p.liveTLS(files)
	if err != nil {
		return nil, err
	}
	dial := dialer{tls: tlsConfig, held: new(atomic.Int64)}
	mechanism, err := p.mechanism(files)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, loginOpt(mechanism, files))
	}
	if id := p["client.id"]; id != "" {
		if len(id) > 256 {
			return nil, fmt.Errorf("client.id: %d bytes are too many; at most 256 are allowed", len(id))
		}
		opts = append(opts, kgo.ClientID(id))
	}
	for _, t := range []struct {
		key      string
		min, max time.Duration // what franz-go accepts; other values move to the nearer end
		opts     func(time.Duration) []kgo.Opt
	}{
		{"request.timeout.ms", 100 * time.Millisecond, 15 * time.Minute, func(d time.Duration) []kgo.Opt {
			return []kgo.Opt{kgo.RequestTimeoutOverhead(d)}
		}},
		{"socket.connection.setup.timeout.ms", 100 * time.Millisecond, time.Hour, func(d time.Duration) []kgo.Opt {
			dial.setup = d
			return []kgo.Opt{kgo.DialTimeout(d)}
		}},
		{"metadata.max.age.ms", 10 * time.Millisecond, time.Hour, func(d time.Duration) []kgo.Opt {
			// The smallest age must not exceed the largest.
			return []kgo.Opt{kgo.MetadataMaxAge(d), kgo.MetadataMinAge(min(d, metadataMinAge))}
		}},
	} {
		s, ok := p[t.key]
		if !ok {
			continue
		}
		ms, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
		if err != nil || ms < 0 {
			return nil, fmt.Errorf("%s: want a number of milliseconds", t.key)
		}
		opts = append(opts, t.opts(min(max(time.Duration(ms)*time.Millisecond, t.min), t.max))...)
	}
	return append(opts, dial.opt()), nil
}

// address matches what Kafka accepts in bootstrap.servers (Utils.HOST_PORT_PATTERN). A protocol in
// front is allowed and ignored; IPv6 addresses are in brackets.
var address = regexp.MustCompile(`^(?:[0-9A-Za-z\-%._]*://)?(?:\[([0-9A-Fa-f:.%]+)\]|([0-9A-Za-z\-._]+)):([0-9]{1,5})$`)

// Seeds returns the addresses of bootstrap.servers as host:port; nil if there are none.
func (p Properties) Seeds() ([]string, error) {
	var seeds []string
	for s := range strings.SplitSeq(p["bootstrap.servers"], ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		hostport, err := Address(s)
		if err != nil {
			return nil, fmt.Errorf("bootstrap.servers: %w", err)
		}
		seeds = append(seeds, hostport)
	}
	return seeds, nil
}

// Address checks one host:port of the form that bootstrap.servers takes. It returns it without a
// protocol in front.
func Address(s string) (string, error) {
	m := address.FindStringSubmatch(s)
	if m == nil {
		return "", fmt.Errorf("%q is not HOST:PORT", s)
	}
	port, err := strconv.Atoi(m[3])
	if err != nil || port < 1 || port > 65535 {
		return "", fmt.Errorf("%q: the port must be from 1 to 65535", s)
	}
	return net.JoinHostPort(m[1]+m[2], m[3]), nil
}

// protocol returns security.protocol, PLAINTEXT by default.
func (p Properties) protocol() (string, error) {
	s := strings.ToUpper(strings.TrimSpace(p["security.protocol"]))
	if s == "" {
		return protocolPlaintext, nil
	}
	if !slices.Contains(protocols, s) {
		return "", fmt.Errorf("security.protocol: %s is not one of %s", quoteWord(p["security.protocol"]), strings.Join(protocols, ", "))
	}
	return s, nil
}

// quoteWord quotes a value for an error. It shows at most one word: if the key of a
// sasl.jaas.config is lost in editing, its text becomes part of the value on the line before.
func quoteWord(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 40 || strings.ContainsAny(s, " \t=;'\"") {
		return "its value"
	}
	return strconv.Quote(s)
}
