package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"klink/router"
)

// maxPortTries is how many occupied ports are skipped for a broker that appears later.
const maxPortTries = 1000

// Listener is one way into the proxy: a port to bootstrap from, and a port for each broker.
type Listener struct {
	// Name stands in logs and errors.
	Name string
	// Listen is host:port to bootstrap from. With port 0 the kernel chooses a free port, also for
	// the brokers if FirstPort is 0.
	Listen string
	// Advertise is the host that klink tells clients to connect to. Default: the host of Listen, or
	// the host name of this machine if that is empty. A wildcard address cannot be advertised.
	Advertise string
	// AdvertisePort is the port at which clients reach Listen, if that is another one: the brokers'
	// ports differ by as much. 0 = the port of Listen.
	AdvertisePort int
	// FirstPort and LastPort are the ports of the brokers. 0 = the ports after the one of Listen.
	FirstPort, LastPort int
	// TLS is used towards clients; nil = plaintext.
	TLS *tls.Config
	// SNI is the pattern of the brokers' names, with IDPlace for the id, such as
	// broker-{id}.klink.example. If it is set, all clients come to the port of Listen, brokers get
	// no ports, and the name that a client asks for in the TLS handshake says where it goes: the
	// name of a broker, or Advertise to bootstrap.
	SNI string
	// ProxyFrom are the addresses of load balancers: a connection from there has to begin with a
	// header of the PROXY protocol, version 2, and the address in the header counts as the client's.
	// A header from elsewhere is taken for a malformed request.
	ProxyFrom []netip.Prefix
}

// complete fills in the defaults and checks everything that can be checked without a socket.
func (l *Listener) complete() error {
	host, text, err := net.SplitHostPort(l.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %w; give host:port", l.Listen, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("listen address %q: port %q is not a number up to %d", l.Listen, text, maxPort)
	}
	if port > 65000 && l.FirstPort == 0 && l.SNI == "" {
		return fmt.Errorf("listen address %q: no room for the brokers' ports after port %d", l.Listen, port)
	}
	if l.FirstPort < 0 || l.LastPort > maxPort || l.FirstPort > l.LastPort && l.LastPort != 0 || l.AdvertisePort < 0 || l.AdvertisePort > maxPort {
		return fmt.Errorf("listener %s: ports %d to %d, advertised from %d on, do not exist", l.Name, l.FirstPort, l.LastPort, l.AdvertisePort)
	}
	if l.Advertise == "" {
		l.Advertise = host
	}
	if l.Advertise == "" {
		if l.Advertise, err = os.Hostname(); err != nil {
			return fmt.Errorf("no host name to advertise to clients: %w; set the advertised host", err)
		}
	}
	if ip := net.ParseIP(l.Advertise); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("clients cannot connect to the wildcard address %s; set the advertised host", l.Advertise)
	}
	return l.checkSNI()
}

// maxPort is the highest port.
const maxPort = 65535

// entrance is a Listener at work. Proxy.mu guards what changes.
type entrance struct {
	Listener
	index     int         // in Config.Listeners
	tls       *tls.Config // nil = plaintext
	bootstrap *listener
	brokers   map[int32]*listener
	next      int // the next port for a broker
	// named are the brokers that clients may ask for by name, with SNI. The map is never changed.
	named atomic.Pointer[map[int32]*target]
}

// open opens the port to bootstrap from. Proxy.mu is held.
func (e *entrance) open(p *Proxy) error {
	e.brokers = map[int32]*listener{}
	e.bootstrap = &listener{proxy: p, entrance: e, target: &target{id: bootstrapID}}
	if err := e.bootstrap.listen(e.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w; choose another listen address or free the port", e.Listen, err)
	}
	e.next = e.FirstPort
	if e.next == 0 {
		e.next = e.bootstrap.port + 1
	}
	return nil
}

// admit opens a port for each broker that has none. See Proxy.SetBrokers. Proxy.mu is held.
func (e *entrance) admit(p *Proxy, targets []*target) (err error) {
	if e.SNI != "" {
		e.nameTargets(targets)
		return nil
	}
	first := len(e.brokers) == 0
	for _, t := range targets {
		l := e.brokers[t.id]
		if l == nil {
			l = &listener{proxy: p, entrance: e, target: t}
			e.brokers[t.id] = l
			if first {
				l.port = e.next
				e.next++
			}
		}
		if l.ln != nil {
			continue
		}
		if one := e.openBroker(l); one != nil {
			err = errors.Join(err, one)
			continue
		}
		l.serve()
	}
	return err
}

// advertised returns the addresses at which clients of this entrance reach the brokers. Proxy.mu is
// held.
func (e *entrance) advertised() map[int32]router.Addr {
	all := make(map[int32]router.Addr, len(e.brokers))
	for id, l := range e.brokers {
		if l.ln != nil {
			all[id] = router.Addr{Host: e.Advertise, Port: int32(l.port + e.shift())}
		}
	}
	if named := e.named.Load(); named != nil {
		for id := range *named {
			all[id] = router.Addr{Host: e.brokerName(id), Port: int32(e.bootstrap.port + e.shift())}
		}
	}
	return all
}

// shift returns by how much the ports that clients see differ from the real ones.
func (e *entrance) shift() int {
	if e.AdvertisePort == 0 {
		return 0
	}
	return e.AdvertisePort - e.bootstrap.port
}

// openBroker opens the port of a broker. Proxy.mu is held.
func (e *entrance) openBroker(l *listener) error {
	host, port, _ := net.SplitHostPort(e.Listen)
	if port == "0" && e.FirstPort == 0 {
		return e.openPort(l, host, 0)
	}
	last := min(maxPort, maxPort-e.shift())
	if e.LastPort != 0 {
		last = min(last, e.LastPort)
	}
	exhausted := fmt.Errorf("listener %s has no port left for broker %d after %d; give it more ports for brokers", e.Name, l.target.id, last)
	if l.port != 0 { // assigned by the order of ids; no other port will do
		if l.port > last {
			return exhausted
		}
		return e.openPort(l, host, l.port)
	}
	var err error
	for range maxPortTries {
		port := e.next
		if port > last {
			return exhausted
		}
		e.next++
		if err = e.openPort(l, host, port); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

func (e *entrance) openPort(l *listener, host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	if err := l.listen(addr); err != nil {
		return fmt.Errorf("listen on %s for broker %d: %w; free the port or choose another listen address", addr, l.target.id, err)
	}
	return nil
}

// close closes all ports. Proxy.mu is held.
func (e *entrance) close() {
	if e.bootstrap != nil {
		e.bootstrap.close()
	}
	for _, l := range e.brokers {
		l.close()
	}
}
