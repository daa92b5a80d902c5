package wire

import (
	"fmt"
	"net"
	"syscall"
)

// netConn is implemented by *tls.Conn.
type netConn interface{ NetConn() net.Conn }

// alive checks, without waiting, whether the broker has closed an idle connection, or has sent
// bytes that nobody asked for. The result of a request that is sent on such a connection would be
// unknown. Brokers close connections after connections.max.idle.ms, and when they stop.
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
			// Most likely the broker ends TLS.
			found = fmt.Errorf("%s sent data on an idle connection", c.addr)
		}
		return true
	})
	if found != nil {
		return found
	}
	return err
}
