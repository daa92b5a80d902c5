package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/router"
)

// twoEntrances starts a proxy with a plaintext listener and a TLS listener that has a range of two
// ports for brokers, from base on.
func twoEntrances(t *testing.T, b *fakeBroker, base int) (p *Proxy, sessions *recordingSessions, outside wire) {
	server, client := testTLS(t)
	sessions = &recordingSessions{fakeSessions: &fakeSessions{}, clients: make(chan router.Client, 10)}
	p, err := New(Config{Sessions: sessions, Logger: slog.New(slog.DiscardHandler), Listeners: []Listener{
		{Name: "internal", Listen: "127.0.0.1:0", Advertise: "inside.example"},
		{Name: "external", Listen: "127.0.0.1:0", Advertise: "outside.example", FirstPort: base, LastPort: base + 1, TLS: server},
	}})
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	p.SetBootstrap([]string{b.addr()})
	return p, sessions, wire{client: client}
}

// Both listeners lead to the same brokers. Each has its own addresses and its own TLS, and sessions
// know at which one their client is.
func TestTwoListeners(t *testing.T) {
	base := freePorts(t, 2)
	b := newBroker(t, nil, nil)
	p, sessions, outside := twoEntrances(t, b, base)
	m, err := p.SetBrokers([]Broker{brokerAt(20, b), brokerAt(10, b)})
	require.NoError(t, err)
	require.Len(t, m, 2)
	require.Equal(t, "inside.example", m[0][10].Host)
	require.Equal(t, map[int32]router.Addr{
		10: {Host: "outside.example", Port: int32(base)}, 20: {Host: "outside.example", Port: int32(base + 1)},
	}, m[1])
	for i, w := range []wire{{}, outside} {
		ports := map[int32]int32{router.BootstrapID: int32(p.Addrs()[i].(*net.TCPAddr).Port), 10: m[i][10].Port, 20: m[i][20].Port}
		for id, port := range ports {
			ask(t, dialPort(t, w, port), kForward, 1, 10)
			require.Equal(t, router.Client{Listener: i, Broker: id}, <-sessions.clients)
		}
	}
	plain := dialPort(t, wire{}, m[1][10].Port)
	_, err = plain.Write(request(kForward, 1, 1))
	require.NoError(t, err)
	expectClosed(t, plain)
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonTLS) == 1 })
}

// A listener whose range is used up keeps serving the brokers that it has, and so does the other.
func TestRangeOfPortsIsUsedUp(t *testing.T) {
	base := freePorts(t, 2)
	b := newBroker(t, nil, nil)
	p, _, outside := twoEntrances(t, b, base)
	for _, brokers := range [][]Broker{
		{brokerAt(1, b), brokerAt(2, b), brokerAt(3, b)},
		{brokerAt(0, b), brokerAt(1, b), brokerAt(2, b), brokerAt(3, b)}, // a later one
	} {
		m, err := p.SetBrokers(brokers)
		require.ErrorContains(t, err, fmt.Sprintf("listener external has no port left for broker 3 after %d", base+1))
		require.Len(t, m[0], len(brokers))
		require.Equal(t, map[int32]int32{1: int32(base), 2: int32(base + 1)}, ports(m[1]))
	}
	ask(t, dialPort(t, outside, int32(base)), kForward, 1, 1)
}

// Behind a load balancer clients see other port numbers.
func TestAdvertisedPorts(t *testing.T) {
	base := freePorts(t, 4)
	b := newBroker(t, nil, nil)
	p, _ := newProxy(t, b.addr(), func(c *Config) {
		c.Listeners = []Listener{{Listen: fmt.Sprintf("127.0.0.1:%d", base), Advertise: "a", AdvertisePort: 65533}}
	})
	m, err := p.SetBrokers([]Broker{brokerAt(1, b), brokerAt(2, b), brokerAt(3, b)})
	require.ErrorContains(t, err, "no port left for broker 3")
	require.Equal(t, []map[int32]router.Addr{{1: {Host: "a", Port: 65534}, 2: {Host: "a", Port: 65535}}}, m)
	ask(t, dialPort(t, wire{}, int32(base+1)), kForward, 1, 1)
}

// If one port cannot be opened, Start keeps none.
func TestStartOpensAllOrNothing(t *testing.T) {
	base := freePorts(t, 1)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	first := fmt.Sprintf("127.0.0.1:%d", base)
	p, err := New(Config{Sessions: &fakeSessions{}, Listeners: []Listener{{Listen: first}, {Listen: taken.Addr().String()}}})
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(), "free the port")
	require.Nil(t, p.Addrs())
	ln, err := net.Listen("tcp", first)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.NoError(t, p.Close())
}
