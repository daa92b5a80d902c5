package proxy

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"klink/router"
)

// sniProxy starts a proxy that routes by names, with brokers 1 and 2, and returns its clients'
// configuration.
func sniProxy(t *testing.T, change ...func(*Config)) (p *Proxy, sessions *recordingSessions, client *tls.Config, dialled *atomic.Int64) {
	server, _ := testTLS(t)
	dialled = new(atomic.Int64)
	sessions = &recordingSessions{fakeSessions: &fakeSessions{}, clients: make(chan router.Client, 100)}
	config := Config{Sessions: sessions, Logger: slog.New(slog.DiscardHandler), Listeners: []Listener{
		{Name: "sni", Listen: "127.0.0.1:0", Advertise: "klink.example", SNI: "broker-{id}.klink.example", TLS: server},
	}}
	countDials(dialled)(&config)
	for _, f := range change {
		f(&config)
	}
	p, err := New(config)
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p, sessions, &tls.Config{InsecureSkipVerify: true}, dialled
}

// numbered answers each request with its own number as the correlation id.
func numbered(n int32) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := readFrame(conn); err != nil {
				return
			}
			_, _ = conn.Write(response(n, 0))
		}
	}
}

// Clients come to one port, and the server name says to which broker they go.
func TestRoutingByServerName(t *testing.T) {
	p, sessions, client, dialled := sniProxy(t)
	seed, one, two := newBroker(t, nil, numbered(0)), newBroker(t, nil, numbered(1)), newBroker(t, nil, numbered(2))
	p.SetBootstrap([]string{seed.addr()})
	port := int32(p.Addr().(*net.TCPAddr).Port)
	dial := func(name string) *tls.Conn {
		named := client.Clone()
		named.ServerName = name
		return dialPort(t, wire{client: named}, port).(*tls.Conn)
	}
	leads := func(name string, to, number int32) {
		t.Helper()
		conn := dial(name)
		_, err := conn.Write(request(kForward, 1, 0))
		require.NoError(t, err, name)
		got, err := readFrame(conn)
		require.NoError(t, err, name)
		require.Equal(t, response(number, 0), got, name)
		require.Equal(t, router.Client{Broker: to}, <-sessions.clients)
	}
	leads("klink.example", router.BootstrapID, 0) // even before a broker is known
	early := dial("broker-1.klink.example")
	require.NoError(t, early.Handshake(), "a client whose broker is not known yet gets no alert, as it would give up")
	expectClosed(t, early)

	m, err := p.SetBrokers([]Broker{brokerAt(2, two), brokerAt(1, one)})
	require.NoError(t, err)
	require.Equal(t, []map[int32]router.Addr{{
		1: {Host: "broker-1.klink.example", Port: port}, 2: {Host: "broker-2.klink.example", Port: port},
	}}, m)
	leads("klink.example", router.BootstrapID, 0)
	leads("KLINK.Example", router.BootstrapID, 0)
	for range 3 {
		leads("broker-1.klink.example", 1, 1)
		leads("Broker-2.Klink.EXAMPLE", 2, 2)
	}
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonServerName) == 1 })

	dials := dialled.Load()
	strangers := []string{
		"", "example", "x.klink.example", "broker-.klink.example", "broker--1.klink.example", "broker-01.klink.example", "broker-+1.klink.example",
		"broker-1.klink.example.org", "xbroker-1.klink.example", "broker-4294967297.klink.example", "broker-1x.klink.example",
		strings.Repeat("broker-1.", 200) + "klink.example",
	}
	for _, name := range strangers {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			named := client.Clone()
			named.ServerName, named.MaxVersion = name, version
			raw := dialPort(t, wire{}, port)
			err := tls.Client(raw, named).Handshake()
			require.ErrorContains(t, err, "unrecognized name", name)
			_ = raw.Close()
		}
	}
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonServerName) == 1+2*int64(len(strangers)) })
	unknown := dial("broker-3.klink.example")
	require.NoError(t, unknown.Handshake())
	expectClosed(t, unknown)
	require.Equal(t, dials, dialled.Load(), "none of them costs a broker a connection")
	require.Empty(t, sessions.clients)

	// A broker that moves is dialled at its new address, one that comes gets its name, one that is
	// gone keeps it.
	m, err = p.SetBrokers([]Broker{brokerAt(2, one), brokerAt(3, two)})
	require.NoError(t, err)
	require.Len(t, m[0], 3)
	leads("broker-2.klink.example", 2, 1)
	leads("broker-3.klink.example", 3, 2)
	leads("broker-1.klink.example", 1, 1)
}

// sharedTicket is a cache of one session for all names.
type sharedTicket struct{ session *tls.ClientSessionState }

func (s *sharedTicket) Get(string) (*tls.ClientSessionState, bool) {
	return s.session, s.session != nil
}

func (s *sharedTicket) Put(_ string, session *tls.ClientSessionState) { s.session = session }

// A ticket from one name leads to where the client asks for now, and to nowhere if that has no
// meaning.
func TestTicketsAndServerNames(t *testing.T) {
	one, two := newBroker(t, nil, numbered(1)), newBroker(t, nil, numbered(2))
	p, _, client, _ := sniProxy(t)
	_, err := p.SetBrokers([]Broker{brokerAt(1, one), brokerAt(2, two)})
	require.NoError(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := &sharedTicket{}
		for i, c := range []struct {
			name string
			want int32
		}{{"broker-1.klink.example", 1}, {"broker-2.klink.example", 2}, {"broker-1.klink.example", 1}, {"stranger.example", 0}} {
			named := client.Clone()
			named.ServerName, named.MaxVersion, named.ClientSessionCache = c.name, version, cache
			conn := dialPort(t, wire{client: named}, int32(p.Addr().(*net.TCPAddr).Port)).(*tls.Conn)
			_, err := conn.Write(request(kForward, 1, 0))
			if c.want == 0 {
				require.ErrorContains(t, err, "unrecognized name")
				continue
			}
			require.NoError(t, err)
			got, err := readFrame(conn)
			require.NoError(t, err)
			require.Equal(t, response(c.want, 0), got)
			if version == tls.VersionTLS13 { // only then does Go resume under another name
				require.Equal(t, i > 0, conn.ConnectionState().DidResume, c.name)
			}
		}
	}
}

// The listener's own choice of a configuration, such as a renewed certificate, still counts.
func TestServerNamesKeepGetConfigForClient(t *testing.T) {
	var asked atomic.Int64
	one := newBroker(t, nil, numbered(1))
	p, _, client, _ := sniProxy(t, func(c *Config) {
		c.Listeners[0].TLS = c.Listeners[0].TLS.Clone()
		renewed := c.Listeners[0].TLS.Clone()
		c.Listeners[0].TLS.Certificates = nil
		c.Listeners[0].TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			asked.Add(1)
			return renewed, nil
		}
	})
	_, err := p.SetBrokers([]Broker{brokerAt(1, one)})
	require.NoError(t, err)
	client.ServerName = "broker-1.klink.example"
	conn := dialPort(t, wire{client: client}, int32(p.Addr().(*net.TCPAddr).Port))
	_, err = conn.Write(request(kForward, 1, 0))
	require.NoError(t, err)
	_, err = readFrame(conn)
	require.NoError(t, err)
	require.EqualValues(t, 1, asked.Load())
}

func TestServerNameErrors(t *testing.T) {
	server, _ := testTLS(t)
	ok := Listener{Name: "l", Listen: "127.0.0.1:65100", Advertise: "b.example", SNI: "b{id}.example", TLS: server}
	for want, change := range map[string]func(*Listener){
		"":                      func(*Listener) {},
		"need one {id}":         func(l *Listener) { l.SNI = "b.example" },
		`"b{id}{id}", need one`: func(l *Listener) { l.SNI = "b{id}{id}" },
		"there is no TLS":       func(l *Listener) { l.TLS = nil },
		"advertise a host":      func(l *Listener) { l.Advertise = "10.0.0.1" },
		"broker, too":           func(l *Listener) { l.Advertise = "B7.example" },
	} {
		l := ok
		change(&l)
		_, err := New(Config{Listeners: []Listener{l}, Sessions: &fakeSessions{}})
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, []string{"b.example", "b1.example"}, ok.Names())
}

// FuzzServerName checks that no name leads to two places, whatever clients send.
func FuzzServerName(f *testing.F) {
	for _, name := range []string{"broker-1.klink.example", "broker-2147483648.klink.example", "broker-.klink.example", "", "broker-1.klink.exampl"} {
		f.Add(name)
	}
	l := Listener{SNI: "broker-{id}.klink.example"}
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := l.brokerOf(name)
		if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
			return // EqualFold knows more letters than DNS
		}
		if want := fmt.Sprintf("broker-%d.klink.example", id); ok != strings.EqualFold(name, want) {
			t.Errorf("%q leads to %d: %v", name, id, ok)
		}
	})
}

// Clients that offer application protocols (ALPN), as HTTP libraries and service meshes do, are not
// refused: klink names none.
func TestALPNIsIgnored(t *testing.T) {
	server, client := testTLS(t)
	client.NextProtos = []string{"h2", "http/1.1"}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := client.Clone()
		client.MaxVersion = version
		p, _ := wire{proxyServer: server}.proxy(t, nil)
		conn := dialProxy(t, p, client)
		ask(t, conn, kForward, 1, 10)
		require.Empty(t, conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
	}
}
