package proxy

import (
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

// enter counts a connection in, and says whether the limit allows it. leave must follow in either
// case.
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

// leave counts a connection out.
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

// holder is what one host has: an address of IPv4, and of IPv6 a network of 64 bits, in which it
// may choose at will.
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

// rate spreads connections of all listeners over time. As many as are allowed in a second may come
// at once.
type rate struct {
	limit int // in a second; 0 = none
	mu    sync.Mutex
	next  time.Time // when the next one is due, if they came evenly
}

// delay counts a connection in, and says how long it has to wait.
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

// wait waits for the turn of a connection; false = closed before.
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
