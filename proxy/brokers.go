package proxy

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"klink/router"
)

// maxPortTries is how many occupied ports are skipped for a broker that appears later.
const maxPortTries = 1000

// Broker is a broker of the destination, at its own address.
type Broker struct {
	ID   int32
	Host string
	Port int32
}

// SetBootstrap sets the broker addresses (host:port) behind the bootstrap listener. The proxy tries
// them in turn, starting with the one that answered last.
func (p *Proxy) SetBootstrap(addrs []string) {
	p.seeds.Store(&seeds{addrs: slices.Clone(addrs)})
}

// seeds are the addresses behind the bootstrap listener.
type seeds struct {
	addrs []string
	good  atomic.Int32 // index of the one that answered last
}

// inOrder returns the addresses in the order in which to try them.
func (s *seeds) inOrder() []string {
	if s == nil {
		return nil
	}
	good := int(s.good.Load())
	return append(slices.Clone(s.addrs[good:]), s.addrs[:good]...)
}

// answered records that an address works.
func (s *seeds) answered(addr string) {
	if i := slices.Index(s.addrs, addr); i >= 0 {
		s.good.Store(int32(i))
	}
}

// SetBrokers opens a listener for each broker that has none. It returns the addresses at which
// clients reach all brokers. The brokers of the first call get the listen port + 1, + 2, ... in the
// order of their ids; brokers that appear later get the next free port. A known broker keeps its
// port; if its address has changed, new connections go to the new address. Listeners of brokers
// that have vanished stay open.
//
// It may be called at any time between Start and Shutdown, and again after an error: brokers whose
// port could not be opened are missing in the map, and the next call tries them again.
func (p *Proxy) SetBrokers(brokers []Broker) (advertised map[int32]router.Addr, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started || p.stopped {
		return nil, errors.New("proxy: brokers can be set only between Start and Shutdown")
	}
	brokers = slices.Clone(brokers)
	slices.SortFunc(brokers, func(a, b Broker) int { return int(a.ID) - int(b.ID) })
	first := len(p.brokers) == 0
	for _, b := range brokers {
		l := p.brokers[b.ID]
		if l == nil {
			l = &listener{proxy: p, broker: b.ID}
			p.brokers[b.ID] = l
			if first {
				l.port = p.nextPort
				p.nextPort++
			}
		}
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		if old := l.upstream.Load(); old == nil || *old != addr {
			l.upstream.Store(&addr)
		}
		if l.ln == nil {
			if e := p.openBroker(l); e != nil {
				err = errors.Join(err, e)
				continue
			}
			l.serve()
		}
	}
	advertised = make(map[int32]router.Addr, len(p.brokers))
	for id, l := range p.brokers {
		if l.ln != nil {
			advertised[id] = router.Addr{Host: p.config.Advertise, Port: int32(l.port)}
		}
	}
	return advertised, err
}

// openBroker opens the listener of a broker. mu is held.
func (p *Proxy) openBroker(l *listener) error {
	host, port, _ := net.SplitHostPort(p.config.Listen)
	switch {
	case port == "0":
		return p.openPort(l, host, 0)
	case l.port != 0: // assigned by the order of ids; no other port will do
		return p.openPort(l, host, l.port)
	}
	var err error
	for range maxPortTries {
		port := p.nextPort
		if port > 65535 {
			return fmt.Errorf("no port left for broker %d after %d", l.broker, port-1)
		}
		p.nextPort++
		if err = p.openPort(l, host, port); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

func (p *Proxy) openPort(l *listener, host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	if err := l.listen(addr); err != nil {
		return fmt.Errorf("listen on %s for broker %d: %w; free the port or choose another listen address", addr, l.broker, err)
	}
	return nil
}
