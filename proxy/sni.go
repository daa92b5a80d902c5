package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"strconv"
	"strings"
)

// IDPlace is where the id of a broker stands in the names of Listener.SNI.
const IDPlace = "{id}"

// maxNameShown is how much of a server name is shown in an error: the longest name in DNS.
const maxNameShown = 253

// noCertificate refuses a client: crypto/tls then sends it the alert unrecognized_name. A client
// with a ticket of another name would need no certificate, so tickets do not count.
var noCertificate = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}

// checkSNI checks what routing by names needs.
func (l *Listener) checkSNI() error {
	switch {
	case l.SNI == "":
		return nil
	case strings.Count(l.SNI, IDPlace) != 1:
		return fmt.Errorf("listener %s: the names of brokers, %q, need one %s", l.Name, l.SNI, IDPlace)
	case l.TLS == nil:
		return fmt.Errorf("listener %s: clients name the broker in the TLS handshake, and there is no TLS", l.Name)
	case net.ParseIP(l.Advertise) != nil:
		return fmt.Errorf("listener %s: clients do not name the address %s in the TLS handshake; advertise a host name", l.Name, l.Advertise)
	}
	if _, ok := l.brokerOf(l.Advertise); ok {
		return fmt.Errorf("listener %s: the advertised host %s is the name of a broker, too", l.Name, l.Advertise)
	}
	return nil
}

// brokerName returns the name by which clients reach a broker.
func (l *Listener) brokerName(id int32) string {
	return strings.Replace(l.SNI, IDPlace, strconv.Itoa(int(id)), 1)
}

// brokerOf returns the broker that has a name, whether there is such a broker or not.
func (l *Listener) brokerOf(name string) (id int32, ok bool) {
	prefix, suffix, _ := strings.Cut(l.SNI, IDPlace)
	if len(name) <= len(prefix)+len(suffix) {
		return 0, false
	}
	digits := name[len(prefix) : len(name)-len(suffix)]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > math.MaxInt32 || !strings.EqualFold(name, l.brokerName(int32(n))) {
		return 0, false
	}
	return int32(n), true
}

// Names returns names that clients connect to and look for in the listener's certificate: that to
// bootstrap from, and with SNI that of a broker.
func (l *Listener) Names() []string {
	if l.SNI == "" {
		return []string{l.Advertise}
	}
	return []string{l.Advertise, l.brokerName(1)}
}

// serverTLS returns the configuration for handshakes; nil = plaintext. With SNI it refuses clients
// that ask for a name without meaning, before they get a certificate.
func (e *entrance) serverTLS() *tls.Config {
	if e.SNI == "" {
		return e.TLS
	}
	config := e.TLS.Clone()
	next := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if _, named := e.brokerOf(hello.ServerName); !named && !strings.EqualFold(hello.ServerName, e.Advertise) {
			hello.Conn.(*tlsPipe).refused = e.unknownName(hello.ServerName)
			return noCertificate, nil
		}
		if next != nil {
			return next(hello)
		}
		return nil, nil
	}
	return config
}

func (e *entrance) unknownName(name string) error {
	if name == "" {
		return fmt.Errorf("the client names no server in its TLS handshake (SNI); want %s or %s", e.Advertise, e.SNI)
	}
	return fmt.Errorf("the client asks for the server name %q; want %s or %s", name[:min(len(name), maxNameShown)], e.Advertise, e.SNI)
}

// handshakeReason says why a handshake with a client failed.
func (t *tlsLayer) handshakeReason(err error) (Reason, error) {
	if t.pipe.refused != nil {
		return ReasonServerName, t.pipe.refused
	}
	return ReasonTLS, fmt.Errorf("TLS handshake with the client: %w", err)
}

// routeByName sets the target of a pair by the name that its client has asked for. A client that
// asks for a broker that klink does not know is closed without an alert: the broker may be new, and
// clients try again after a lost connection, but give up after an alert.
func (x *pair) routeByName(conn *tls.Conn) error {
	if x.entrance.SNI == "" {
		return nil
	}
	id, named := x.entrance.brokerOf(conn.ConnectionState().ServerName)
	if !named {
		return nil // to bootstrap: serverTLS has let no other name in
	}
	t := x.entrance.known(id)
	if t == nil {
		return fmt.Errorf("%w: %d", errUnknownBroker, id)
	}
	x.target = t
	return nil
}

var errUnknownBroker = errors.New("the client asks for a broker that klink does not know (yet)")

// known returns the target of a broker; nil = there is none.
func (e *entrance) known(id int32) *target {
	if all := e.named.Load(); all != nil {
		return (*all)[id]
	}
	return nil
}

// nameTargets makes brokers known by their names. Proxy.mu is held.
func (e *entrance) nameTargets(targets []*target) {
	all := map[int32]*target{}
	if old := e.named.Load(); old != nil {
		maps.Copy(all, *old)
	}
	for _, t := range targets {
		all[t.id] = t
	}
	e.named.Store(&all)
}
