package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxyHeader makes a header of the PROXY protocol, version 2.
func proxyHeader(versionAndCommand, familyAndTransport byte, rest []byte) []byte {
	h := append([]byte(proxySignature), versionAndCommand, familyAndTransport)
	h = binary.BigEndian.AppendUint16(h, uint16(len(rest)))
	return append(h, rest...)
}

// forClient is the header for a TCP client at an IPv4 or IPv6 address.
func forClient(client string, extensions ...byte) []byte {
	from := netip.MustParseAddrPort(client)
	addr := from.Addr().AsSlice()
	rest := append(bytes.Clone(addr), addr...)
	rest = binary.BigEndian.AppendUint16(rest, from.Port())
	rest = binary.BigEndian.AppendUint16(rest, 9092)
	family := byte(0x11)
	if from.Addr().Is6() {
		family = 0x21
	}
	return proxyHeader(0x21, family, append(rest, extensions...))
}

func TestReadProxyHeader(t *testing.T) {
	none := netip.AddrPort{}
	unix := proxyHeader(0x21, 0x31, make([]byte, 216))
	for name, c := range map[string]struct {
		header []byte
		want   netip.AddrPort
	}{
		"IPv4":                      {forClient("192.0.2.1:5"), netip.MustParseAddrPort("192.0.2.1:5")},
		"IPv6":                      {forClient("[2001:db8::1]:5"), netip.MustParseAddrPort("[2001:db8::1]:5")},
		"IPv4 in IPv6":              {forClient("[::ffff:192.0.2.1]:5"), netip.MustParseAddrPort("192.0.2.1:5")},
		"extensions":                {forClient("192.0.2.1:5", make([]byte, maxProxyHeader-proxyHead-12)...), netip.MustParseAddrPort("192.0.2.1:5")},
		"a health check":            {proxyHeader(0x20, 0, nil), none},
		"a health check with bytes": {proxyHeader(0x20, 0x11, make([]byte, 12)), none},
		"unspecified":               {proxyHeader(0x21, 0, nil), none},
		"a Unix socket":             {unix, none},
	} {
		t.Run(name, func(t *testing.T) {
			r := bytes.NewReader(append(bytes.Clone(c.header), "rest"...))
			got, err := readProxyHeader(r)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, 4, r.Len(), "what follows is left")
			for cut := range c.header {
				_, err := readProxyHeader(bytes.NewReader(c.header[:cut]))
				require.ErrorIs(t, err, errProxyHeader)
			}
		})
	}
	for want, header := range map[string][]byte{
		"version 1":         []byte("PROXY TCP4 192.0.2.1 192.0.2.2 5 9092\r\n"),
		"version 3":         proxyHeader(0x31, 0x11, make([]byte, 12)),
		"command 2":         proxyHeader(0x22, 0x11, make([]byte, 12)),
		"family 4":          proxyHeader(0x21, 0x41, make([]byte, 12)),
		"transport 3":       proxyHeader(0x21, 0x13, make([]byte, 12)),
		"is not TCP":        proxyHeader(0x21, 0x12, make([]byte, 12)),
		"too few":           proxyHeader(0x21, 0x11, make([]byte, 11)),
		"are too few":       proxyHeader(0x21, 0x21, make([]byte, 12)),
		"are too many":      proxyHeader(0x21, 0x11, make([]byte, maxProxyHeader-proxyHead+1)),
		"65535 bytes after": proxyHeader(0x21, 0x11, make([]byte, 65535)),
	} {
		_, err := readProxyHeader(bytes.NewReader(header))
		require.ErrorIs(t, err, errProxyHeader)
		require.ErrorContains(t, err, want)
	}
}

// FuzzProxyHeader checks that a header is read to its end and no further, whatever is sent.
func FuzzProxyHeader(f *testing.F) {
	f.Add(forClient("192.0.2.1:5"))
	f.Add(forClient("[2001:db8::1]:5", 1, 2, 3))
	f.Add(proxyHeader(0x20, 0, nil))
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 5 9092\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		addr, err := readProxyHeader(r)
		if read := len(in) - r.Len(); read > maxProxyHeader {
			t.Errorf("%d bytes were read", read)
		} else if err == nil && read != proxyHead+int(binary.BigEndian.Uint16(in[14:])) {
			t.Errorf("%d bytes were read of %x", read, in)
		}
		if err != nil && !errors.Is(err, errProxyHeader) || err != nil && addr.IsValid() {
			t.Error(addr, err)
		}
	})
}

// behind starts a proxy that takes the PROXY protocol from one address.
func behind(t *testing.T, w wire, from string, change ...func(*Config)) *Proxy {
	p, _ := w.proxy(t, nil, append(change, func(c *Config) {
		c.Listeners[0].ProxyFrom = []netip.Prefix{netip.MustParsePrefix(from)}
	})...)
	return p
}

// The client's address counts, not that of the load balancer. What the client sends together with
// the header is not lost.
func TestClientsBehindALoadBalancer(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		p := behind(t, w, "127.0.0.1/32", func(c *Config) { c.MaxConnectionsPerIP = 2 })
		dial := func(header []byte) net.Conn {
			raw := dialProxy(t, p, nil)
			_, err := raw.Write(header)
			require.NoError(t, err)
			return w.secure(raw)
		}
		first := dial(forClient("192.0.2.1:1000"))
		ask(t, first, kForward, 1, 10)
		ask(t, dial(forClient("192.0.2.1:1001", 1, 2, 3)), kForward, 1, 10)
		expectClosed(t, dial(forClient("192.0.2.1:1002")))
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonLimit) == 1 })
		for range 2 {
			ask(t, dial(forClient("192.0.2.2:1000")), kForward, 1, 10)
		}
		require.NoError(t, first.Close())
		eventually(t, "room again", func() bool { return p.Stats().Connections.Load() == 3 })
		ask(t, dial(forClient("192.0.2.1:1003")), kForward, 1, 10)
		ask(t, dial(proxyHeader(0x20, 0, nil)), kForward, 1, 10) // the load balancer itself
		if w.client == nil {                                     // header and request in one packet
			conn := dial(append(forClient("[2001:db8::1]:9"), request(kForward, 7, 3)...))
			got, err := readFrame(conn)
			require.NoError(t, err)
			require.Equal(t, response(7, 3), got)
		}
	})
}

// A header has to be there, whole, in time; and it counts only from an address on the list.
func TestProxyHeaderAttacks(t *testing.T) {
	server, client := testTLS(t)
	secure := wire{proxyServer: server, client: client}
	for name, c := range map[string]struct {
		w      wire
		from   string // who is trusted; the attacker is 127.0.0.1
		send   []byte
		end    bool // the attacker closes its side then
		reason Reason
	}{
		"no header":                         {from: "127.0.0.0/8", send: request(kForward, 1, 1), reason: ReasonProxyHeader},
		"no header, but TLS":                {w: secure, from: "127.0.0.0/8", send: []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on"), reason: ReasonProxyHeader},
		"silence":                           {from: "127.0.0.0/8", reason: ReasonProxyHeader},
		"a header that is cut":              {from: "127.0.0.0/8", send: forClient("192.0.2.1:5")[:20], end: true, reason: ReasonProxyHeader},
		"a header that stops":               {from: "127.0.0.0/8", send: forClient("192.0.2.1:5")[:20], reason: ReasonProxyHeader},
		"a huge length":                     {from: "127.0.0.0/8", send: proxyHeader(0x21, 0x11, make([]byte, 65535)), reason: ReasonProxyHeader},
		"version 1":                         {from: "127.0.0.0/8", send: []byte("PROXY TCP4 192.0.2.1 192.0.2.2 5 9092\r\n"), reason: ReasonProxyHeader},
		"from an unlisted address":          {from: "127.0.0.2/32", send: forClient("192.0.2.1:5"), reason: ReasonFrameSize},
		"from an unlisted address, to TLS":  {w: secure, from: "127.0.0.2/32", send: forClient("192.0.2.1:5"), reason: ReasonTLS},
		"a second header after the first":   {from: "127.0.0.0/8", send: append(forClient("192.0.2.1:5"), forClient("192.0.2.2:5")...), reason: ReasonFrameSize},
		"a header whose addresses are cut":  {from: "127.0.0.0/8", send: proxyHeader(0x21, 0x21, make([]byte, 12)), reason: ReasonProxyHeader},
		"a header with an unknown protocol": {from: "127.0.0.0/8", send: proxyHeader(0x21, 0xf1, nil), reason: ReasonProxyHeader},
	} {
		t.Run(name, func(t *testing.T) {
			p := behind(t, c.w, c.from, func(c *Config) { c.HandshakeTimeout, c.MaxConnectionsPerIP = 200*time.Millisecond, 3 })
			conn := dialProxy(t, p, nil)
			_, _ = conn.Write(c.send) // klink may close it meanwhile
			if c.end {
				require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			}
			_, _ = io.Copy(io.Discard, conn)
			eventually(t, "counted", func() bool { return p.Stats().Closed(c.reason) == 1 && p.Stats().Connections.Load() == 0 })
			p.perIP.mu.Lock()
			defer p.perIP.mu.Unlock()
			require.Empty(t, p.perIP.conns, "no address is counted any more")
		})
	}
}

// A header that never comes does not hold up a shutdown.
func TestShutdownDoesNotWaitForProxyHeaders(t *testing.T) {
	p := behind(t, wire{}, "127.0.0.1/32", func(c *Config) { c.HandshakeTimeout, c.LoginTimeout = time.Hour, time.Hour })
	conn := dialProxy(t, p, nil)
	eventually(t, "accepted", func() bool { return p.Stats().Connections.Load() == 1 })
	require.NoError(t, p.Shutdown(t.Context()))
	expectClosed(t, conn)
}
