package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// perIP counts the connections of each address. mu is taken when a connection begins and when it
// ends.
type perIP struct {
	limit int // 0 = none, and nothing is counted
	mu    sync.Mutex
	conns map[netip.Addr]int
}

// enter counts a new connection, and reports whether the limit allows it. The caller must call
// leave later in either case.
func (l *perIP) enter(addr netip.Addr) bool {
	if l.limit == 0 {
		return true
	}
	key := holder(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[netip.Addr]int{}
	}
	l.conns[key]++
	return l.conns[key] <= l.limit
}

// refusal says that the limit is exceeded.
func (l *perIP) refusal() error {
	return fmt.Errorf("more than %d connections from its address (max connections per IP)", l.limit)
}

// leave removes a connection from the count.
func (l *perIP) leave(addr netip.Addr) {
	if l.limit == 0 {
		return
	}
	key := holder(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[key]--; l.conns[key] <= 0 {
		delete(l.conns, key)
	}
}

// holder returns the unit that is limited: one IPv4 address, or one IPv6 /64, in which a host can
// choose addresses at will.
func holder(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("")
	if !addr.Is6() {
		return addr
	}
	network, _ := addr.Prefix(64) // of a valid address
	return network.Addr()
}

func remoteOf(conn net.Conn) netip.AddrPort {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	remote := addr.AddrPort()
	return netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
}

// rate limits the rate of connections over all listeners. The connections allowed in one second may
// come in one burst.
type rate struct {
	limit int // per second; 0 = none
	mu    sync.Mutex
	next  time.Time // when the next connection is due at an even pace
}

// delay counts a new connection, and returns how long it has to wait.
func (r *rate) delay(now time.Time) time.Duration {
	if r.limit == 0 {
		return 0
	}
	each := time.Second / time.Duration(r.limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next.Before(now) {
		r.next = now
	}
	wait := r.next.Sub(now) - time.Second + each
	r.next = r.next.Add(each)
	return max(wait, 0)
}

// wait waits until a connection may be accepted. It returns false if closed ends the wait.
func (r *rate) wait(closed <-chan struct{}) bool {
	d := r.delay(time.Now())
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-closed:
		return false
	}
}
