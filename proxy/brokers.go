package proxy

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	"klink/router"
)

// Broker is a broker of the destination, at its own address.
type Broker struct {
	ID   int32
	Host string
	Port int32
}

// SetBootstrap sets the broker addresses (host:port) behind the ports to bootstrap from. The
// proxy tries them in turn, starting with the one that answered last.
func (p *Proxy) SetBootstrap(addrs []string) {
	p.seeds.Store(&seeds{addrs: slices.Clone(addrs)})
}

// seeds are the addresses behind the ports to bootstrap from.
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

// target is where a port leads: a broker, or any broker for a port to bootstrap from.
type target struct {
	id int32
	// addr is the current address of the broker; nil for a port to bootstrap from.
	addr atomic.Pointer[string]
}

// SetBrokers opens a port for each broker that has none, at every listener. It returns, for each
// listener, the addresses at which clients reach all brokers. The brokers of the first call get the
// first ports, in the order of their ids; brokers that appear later get the next free port. A known
// broker keeps its port; if its address has changed, new connections go to the new address. Ports
// of brokers that have vanished stay open.
//
// It may be called at any time between Start and Shutdown, and again after an error: brokers whose
// port could not be opened are missing in the map, and the next call tries them again.
func (p *Proxy) SetBrokers(brokers []Broker) (advertised []map[int32]router.Addr, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started || p.stopped {
		return nil, errors.New("proxy: brokers can be set only between Start and Shutdown")
	}
	brokers = slices.Clone(brokers)
	slices.SortFunc(brokers, func(a, b Broker) int { return int(a.ID) - int(b.ID) })
	targets := make([]*target, len(brokers))
	for i, b := range brokers {
		t := p.brokers[b.ID]
		if t == nil {
			t = &target{id: b.ID}
			p.brokers[b.ID] = t
		}
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		if old := t.addr.Load(); old == nil || *old != addr {
			t.addr.Store(&addr)
		}
		targets[i] = t
	}
	for _, e := range p.entrances {
		err = errors.Join(err, e.admit(p, targets))
		advertised = append(advertised, e.advertised())
	}
	return advertised, err
}
