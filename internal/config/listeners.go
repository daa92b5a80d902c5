package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Listener are the settings of one listener.
type Listener struct {
	Name          string // "default" if --listen gives the only one no name
	Listen        string // HOST:PORT to bootstrap from
	Advertise     string // host name that clients are told, never ""
	AdvertisePort int    // port at which clients reach Listen, 0 = its own
	FirstPort     int    // ports of the brokers, 0 = the ports after the one of Listen
	LastPort      int    // 0 = as many as there are
	TLSCertFile   string // "" = plaintext
	TLSKeyFile    string
	SSLClientAuth string // none, requested or required
	TLSMinVersion uint16
	CipherSuites  []uint16       // nil = Go's choice
	ProxyFrom     []netip.Prefix // load balancers that speak the PROXY protocol
	SNIBroker     string         // pattern of the brokers' names, "" = they have ports of their own
}

// listenerSettings are the settings of all listeners as they were given.
type listenerSettings struct {
	listen                                                                                                          []named
	advertise, advertisePort, brokerPorts, certFile, keyFile, minVersion, ciphers, sniBroker, proxyFrom, clientAuth perListener
}

// resolveListeners makes Listeners from the settings of all listeners, and finds contradictions.
func (c *Serve) resolveListeners() error {
	given := &c.given
	names := make([]string, len(given.listen))
	for i, l := range given.listen {
		names[i] = l.name
	}
	if len(names) == 0 {
		return &Error{Setting: "listen", Problem: "must not be empty"}
	}
	for _, s := range []struct {
		setting string
		value   perListener
	}{
		{"advertise", given.advertise},
		{"advertise-port", given.advertisePort},
		{"broker-ports", given.brokerPorts},
		{"tls-cert-file", given.certFile},
		{"tls-key-file", given.keyFile},
		{"tls-min-version", given.minVersion},
		{"tls-cipher-suites", given.ciphers},
		{"ssl-client-auth", given.clientAuth},
		{"sni-broker", given.sniBroker},
		{"proxy-protocol-from", given.proxyFrom},
	} {
		if err := s.value.stranger(names); err != nil {
			return &Error{Setting: s.setting, Problem: err.Error()}
		}
	}
	for _, l := range given.listen {
		resolved, err := given.resolve(l)
		if err != nil {
			return err
		}
		c.Listeners = append(c.Listeners, *resolved)
	}
	return givePorts(c.Listeners)
}

// resolve returns the settings of one listener.
func (s *listenerSettings) resolve(n named) (*Listener, error) {
	l := &Listener{Name: n.name, Listen: n.value, Advertise: s.advertise.one(n.name), TLSCertFile: s.certFile.one(n.name), TLSKeyFile: s.keyFile.one(n.name)}
	wrong := func(setting, format string, args ...any) (*Listener, error) {
		problem := fmt.Sprintf(format, args...)
		if n.name != defaultListener {
			problem = fmt.Sprintf("listener %s: %s", n.name, problem)
		}
		return nil, &Error{Setting: setting, Problem: problem}
	}
	host, port := l.address()
	if l.Advertise == "" {
		if wildcard(host) {
			return wrong("advertise", "must be set, since clients cannot reach the wildcard address of --listen %s", l.Listen)
		}
		l.Advertise = host
	}
	if strings.ContainsAny(l.Advertise, "/ ") || strings.Contains(l.Advertise, ":") && net.ParseIP(l.Advertise) == nil {
		return wrong("advertise", "%q is not a host name or address (ports follow from --listen)", l.Advertise)
	}
	if (l.TLSCertFile == "") != (l.TLSKeyFile == "") {
		return wrong("tls-cert-file", "must be set together with tls-key-file")
	}
	if text := s.advertisePort.one(n.name); text != "" {
		if port == 0 {
			return wrong("advertise-port", "needs a port other than 0 in --listen")
		}
		l.AdvertisePort, _ = strconv.Atoi(text) // was checked when it was set
	}
	if text := s.brokerPorts.one(n.name); text != "" {
		l.FirstPort, l.LastPort, _ = parsePorts(text)
	}
	l.TLSMinVersion, _ = parseTLSVersion(s.minVersion.one(n.name))
	if l.TLSMinVersion == 0 {
		l.TLSMinVersion = tls.VersionTLS12
	}
	for _, name := range s.ciphers.of(n.name) {
		suite, _ := parseCipherSuite(name)
		l.CipherSuites = append(l.CipherSuites, suite)
	}
	for _, text := range s.proxyFrom.of(n.name) {
		prefix, _ := parsePrefix(text)
		l.ProxyFrom = append(l.ProxyFrom, prefix)
	}
	l.SNIBroker = s.sniBroker.one(n.name)
	if l.SSLClientAuth = s.clientAuth.one(n.name); l.SSLClientAuth == "" {
		l.SSLClientAuth = ClientAuthNone
	}
	switch {
	case l.SSLClientAuth != ClientAuthNone && l.TLSCertFile == "":
		return wrong("ssl-client-auth", "needs --tls-cert-file and --tls-key-file")
	case l.SNIBroker != "" && l.TLSCertFile == "":
		return wrong("sni-broker", "needs --tls-cert-file and --tls-key-file, since clients name a broker in the TLS handshake")
	case l.SNIBroker != "" && l.FirstPort != 0:
		return wrong("sni-broker", "cannot be set together with --broker-ports: all brokers are at the port of --listen")
	case l.SNIBroker != "" && net.ParseIP(l.Advertise) != nil:
		return wrong("sni-broker", "needs a host name in --advertise, since clients do not name an address such as %s in the TLS handshake", l.Advertise)
	case l.TLSCertFile == "" && s.minVersion.byName[n.name] != nil:
		return wrong("tls-min-version", "has no TLS: set --tls-cert-file and --tls-key-file")
	case l.TLSCertFile == "" && s.ciphers.byName[n.name] != nil:
		return wrong("tls-cipher-suites", "has no TLS: set --tls-cert-file and --tls-key-file")
	case l.CipherSuites != nil && l.TLSMinVersion > tls.VersionTLS12:
		return wrong("tls-cipher-suites", "are of TLS 1.2, which --tls-min-version rules out; those of TLS 1.3 cannot be chosen")
	}
	return l, nil
}

// address returns host and port of Listen, which was checked when it was set.
func (l *Listener) address() (host string, port int) {
	host, text, _ := net.SplitHostPort(l.Listen)
	port, _ = strconv.Atoi(text)
	return host, port
}

// portRange are ports of a listener, for an error.
type portRange struct {
	listener    *Listener
	first, last int
}

func (r portRange) String() string {
	ports := strconv.Itoa(r.first)
	if r.last != r.first {
		ports += "-" + strconv.Itoa(r.last)
	}
	return fmt.Sprintf("%s of listener %s", ports, r.listener.Name)
}

// meets reports whether two ranges have a port in common, at an address in common.
func (r portRange) meets(o portRange) bool {
	return r.first <= o.last && o.first <= r.last && sharesHost(r.listener, o.listener)
}

// givePorts finds ports that two listeners would open, and ends the open range of a listener before
// the next port of another one.
func givePorts(listeners []Listener) error {
	var taken []portRange
	take := func(setting string, r portRange) error {
		if i := slices.IndexFunc(taken, r.meets); i >= 0 {
			return &Error{Setting: setting, Problem: fmt.Sprintf("%v overlap with %v", r, taken[i])}
		}
		taken = append(taken, r)
		return nil
	}
	for i := range listeners {
		l := &listeners[i]
		if _, port := l.address(); port != 0 {
			if err := take("listen", portRange{l, port, port}); err != nil {
				return err
			}
		}
	}
	for i := range listeners {
		l := &listeners[i]
		if l.FirstPort != 0 {
			if err := take("broker-ports", portRange{l, l.FirstPort, l.LastPort}); err != nil {
				return err
			}
		}
	}
	for i := range listeners {
		l := &listeners[i]
		_, port := l.address()
		if port == 0 || l.FirstPort != 0 || l.SNIBroker != "" {
			continue
		}
		l.FirstPort, l.LastPort = port+1, maxPort
		for _, r := range taken {
			if r.first > port && sharesHost(l, r.listener) {
				l.LastPort = min(l.LastPort, r.first-1)
			}
		}
		if l.LastPort < l.FirstPort {
			return &Error{Setting: "broker-ports", Problem: fmt.Sprintf(
				"listener %s has no port for brokers after %d: set broker-ports, or another port in --listen", l.Name, port)}
		}
	}
	for i := range listeners {
		l := &listeners[i]
		if _, port := l.address(); l.AdvertisePort != 0 && l.SNIBroker == "" {
			first, last := l.FirstPort+l.AdvertisePort-port, l.LastPort+l.AdvertisePort-port
			if first < 1 || first > maxPort || last > maxPort && l.LastPort != maxPort {
				return &Error{Setting: "advertise-port", Problem: fmt.Sprintf(
					"listener %s would advertise ports %d-%d for its brokers", l.Name, first, last)}
			}
		}
	}
	return nil
}

// maxPort is the highest port.
const maxPort = 65535

// sharesHost reports whether two listeners may listen on one address.
func sharesHost(a, b *Listener) bool {
	of := func(l *Listener) string {
		host, _ := l.address()
		if strings.EqualFold(host, "localhost") {
			return "127.0.0.1"
		}
		return host
	}
	return of(a) == of(b) || wildcard(of(a)) || wildcard(of(b))
}

// wildcard reports whether a host stands for all addresses of the machine.
func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// parsePorts reads FIRST-LAST, or one port.
func parsePorts(s string) (first, last int, err error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		to = from
	}
	first, err = parsePort(strings.TrimSpace(from))
	if err == nil {
		last, err = parsePort(strings.TrimSpace(to))
	}
	if err != nil || first > last {
		return 0, 0, fmt.Errorf("%q is not a range of ports: want FIRST-LAST, such as 9093-9192", s)
	}
	return first, last, nil
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to %d", s, maxPort)
	}
	return int(n), nil
}

// parsePrefix reads a network such as 10.0.0.0/8, or one address.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is no address, and no network such as 10.0.0.0/8", s)
	}
	return prefix.Masked(), nil
}

// idPlace is where the id of a broker stands in the pattern of --sni-broker.
const idPlace = "{id}"

// checkPattern says what is wrong with a pattern of brokers' names.
func checkPattern(s string) error {
	if strings.Count(s, idPlace) != 1 {
		return fmt.Errorf("%q needs one %s in the place of the broker's id", s, idPlace)
	}
	longest := strings.Replace(s, idPlace, strconv.Itoa(math.MaxInt32), 1)
	for label := range strings.SplitSeq(longest, ".") {
		if !isName(label) || len(label) > 63 {
			return fmt.Errorf("%q is no pattern of host names such as broker-{id}.klink.example", s)
		}
	}
	if len(longest) > 253 {
		return fmt.Errorf("%q is too long for a host name", s)
	}
	return nil
}

// parseTLSVersion reads a version in Kafka's spelling.
func parseTLSVersion(s string) (uint16, error) {
	switch s {
	case "TLSv1.2":
		return tls.VersionTLS12, nil
	case "TLSv1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("%q is not one of TLSv1.2, TLSv1.3", s)
}

// parseCipherSuite reads the IANA name of a cipher suite of TLS 1.2.
func parseCipherSuite(s string) (uint16, error) {
	for _, suite := range tls.CipherSuites() {
		if suite.Name != s {
			continue
		}
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			return 0, fmt.Errorf("%s is of TLS 1.3, whose cipher suites cannot be chosen: all are secure", s)
		}
		return suite.ID, nil
	}
	if slices.ContainsFunc(tls.InsecureCipherSuites(), func(suite *tls.CipherSuite) bool { return suite.Name == s }) {
		return 0, fmt.Errorf("%s is not secure", s)
	}
	var known []string
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			known = append(known, suite.Name)
		}
	}
	return 0, errors.New(s + " is not a known cipher suite; known are " + strings.Join(known, ", "))
}
