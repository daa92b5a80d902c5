package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A load balancer that speaks the PROXY protocol says who the client is, in a header before the
// first byte of the client's. klink reads version 2, as HAProxy describes it: a signature, a byte
// with version and command, a byte with address family and transport, the length of the rest, the
// addresses, and extensions, which klink skips. klink reads exactly the header, because what
// follows belongs to the event loop.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHead      = len(proxySignature) + 4
	// maxProxyHeader is the longest header that klink reads: what fits into the smallest packet.
	maxProxyHeader = 536
)

var errProxyHeader = errors.New("no valid header of the PROXY protocol, version 2")

// trusts reports whether connections from an address begin with a header of the PROXY protocol.
func (e *entrance) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(e.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// meetClient reads the header of the PROXY protocol from a connection that has one, and counts the
// client's address. It runs before TLS.
func (x *pair) meetClient(conn net.Conn) (Reason, error) {
	if !x.entrance.trusts(x.remote.Addr()) {
		return 0, nil // the connection's own address was counted when it was accepted
	}
	p := x.proxy
	deadline := time.Now().Add(min(p.config.HandshakeTimeout, p.config.LoginTimeout))
	_ = conn.SetReadDeadline(deadline)
	stop := context.AfterFunc(p.setupCtx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	client, err := readProxyHeader(conn)
	if !stop() && err == nil {
		err = p.setupCtx.Err()
	}
	if err != nil {
		return ReasonProxyHeader, fmt.Errorf("%s may only connect with the PROXY protocol: %w", x.remote.Addr(), err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if client.IsValid() {
		x.remote = client
	}
	x.counted = true
	if !p.perIP.enter(x.remote.Addr()) {
		return ReasonLimit, p.perIP.refusal()
	}
	return 0, nil
}

// readProxyHeader reads a header and returns the client's address. It is the zero AddrPort if the
// connection is the load balancer's own (LOCAL), or the client has no IP address.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var buffer [maxProxyHeader]byte
	head := buffer[:proxyHead]
	if n, err := io.ReadFull(r, head); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w after %d bytes", errProxyHeader, err, n)
	}
	if string(head[:len(proxySignature)]) != proxySignature {
		if bytes.HasPrefix(head, []byte("PROXY ")) {
			return netip.AddrPort{}, fmt.Errorf("%w, but of version 1", errProxyHeader)
		}
		return netip.AddrPort{}, errProxyHeader
	}
	version, command, family, transport := head[12]>>4, head[12]&0xf, head[13]>>4, head[13]&0xf
	size := int(binary.BigEndian.Uint16(head[14:]))
	switch {
	case version != 2:
		return netip.AddrPort{}, fmt.Errorf("%w: version %d", errProxyHeader, version)
	case command > 1 || family > 3 || transport > 2:
		return netip.AddrPort{}, fmt.Errorf("%w: command %d, address family %d, transport %d", errProxyHeader, command, family, transport)
	case size > maxProxyHeader-proxyHead:
		return netip.AddrPort{}, fmt.Errorf("%w: %d bytes after the first %d are too many", errProxyHeader, size, proxyHead)
	}
	rest := buffer[proxyHead : proxyHead+size]
	if n, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w after %d bytes", errProxyHeader, err, proxyHead+n)
	}
	const local, ipv4, ipv6, stream = 0, 1, 2, 1
	width := map[byte]int{ipv4: 4, ipv6: 16}[family]
	switch {
	case command == local || width == 0:
		return netip.AddrPort{}, nil
	case transport != stream:
		return netip.AddrPort{}, fmt.Errorf("%w: transport %d is not TCP", errProxyHeader, transport)
	case size < 2*width+4: // two addresses and two ports
		return netip.AddrPort{}, fmt.Errorf("%w: %d bytes are too few for two addresses", errProxyHeader, size)
	}
	addr, _ := netip.AddrFromSlice(rest[:width])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(rest[2*width:])), nil
}
