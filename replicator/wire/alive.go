package wire

import (
	"fmt"
	"net"
	"syscall"
)

// netConn is what a *tls.Conn has.
type netConn interface{ NetConn() net.Conn }

// alive looks, without waiting, whether the broker has closed an idle connection, or sent what
// nobody has asked for: a request sent now would have no result that is known. Brokers close after
// connections.max.idle.ms, and when they stop.
func (c *Conn) alive() error {
	nc := c.nc
	if t, ok := nc.(netConn); ok {
		nc = t.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var found error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, errno := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
		case errno != nil:
			found = errno
		case n == 0:
			found = fmt.Errorf("%s has closed the connection", c.addr)
		case c.tcp != nil:
			found = fmt.Errorf("%w: %s sent bytes that belong to no request", ErrMalformed, c.addr)
		default:
			found = fmt.Errorf("%s has something to say on a connection at rest", c.addr) // most likely that TLS ends
		}
		return true
	})
	if found != nil {
		return found
	}
	return err
}
