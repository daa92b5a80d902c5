package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"klink/router"
)

// freePorts returns a port that is free and followed by n-1 free ones.
func freePorts(t testing.TB, n int) int {
next:
	for base := 20000 + os.Getpid()%5000; base < 60000; base += n {
		var lns []net.Listener
		for port := base; port < base+n; port++ {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			for _, open := range lns {
				defer open.Close()
			}
			if err != nil {
				continue next
			}
			lns = append(lns, ln)
		}
		for _, ln := range lns {
			_ = ln.Close()
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

func brokerAt(id int32, b *fakeBroker) Broker {
	a := b.ln.Addr().(*net.TCPAddr)
	return Broker{ID: id, Host: a.IP.String(), Port: int32(a.Port)}
}

func ports(m map[int32]router.Addr) map[int32]int32 {
	out := map[int32]int32{}
	for id, a := range m {
		out[id] = a.Port
	}
	return out
}

func TestPortsOfBrokers(t *testing.T) {
	base := freePorts(t, 8)
	b := newBroker(t, nil, nil)
	p, _ := newProxy(t, b.addr(), func(c *Config) {
		c.Listeners[0].Listen = fmt.Sprintf("127.0.0.1:%d", base)
		c.Listeners[0].Advertise = "klink.example"
	})
	port := func(i int) int32 { return int32(base + i) }

	m, err := p.SetBrokers([]Broker{brokerAt(30, b), brokerAt(10, b), brokerAt(20, b)})
	require.NoError(t, err)
	require.Equal(t, map[int32]router.Addr{
		10: {Host: "klink.example", Port: port(1)}, 20: {Host: "klink.example", Port: port(2)}, 30: {Host: "klink.example", Port: port(3)},
	}, m[0], "in the order of ids")

	m, err = p.SetBrokers([]Broker{brokerAt(30, b), brokerAt(5, b)})
	require.NoError(t, err)
	require.Equal(t, map[int32]int32{5: port(4), 10: port(1), 20: port(2), 30: port(3)}, ports(m[0]), "new ones come after; others keep theirs")

	// A port that somebody else has is passed over.
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+5))
	require.NoError(t, err)
	defer taken.Close()
	m, err = p.SetBrokers([]Broker{brokerAt(7, b)})
	require.NoError(t, err)
	require.Equal(t, port(6), m[0][7].Port)
	for id, a := range m[0] {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.Port))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(requestTimeout)))
		ask(t, conn, kForward, id, 10)
		_ = conn.Close()
	}
}

func TestTakenPortOfAFirstBroker(t *testing.T) {
	base := freePorts(t, 3)
	b := newBroker(t, nil, nil)
	p, _ := newProxy(t, b.addr(), func(c *Config) { c.Listeners[0].Listen = fmt.Sprintf("127.0.0.1:%d", base) })
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+1))
	require.NoError(t, err)
	brokers := []Broker{brokerAt(1, b), brokerAt(2, b)}
	m, err := p.SetBrokers(brokers)
	require.ErrorContains(t, err, fmt.Sprintf("listen on 127.0.0.1:%d for broker 1", base+1))
	require.Equal(t, map[int32]int32{2: int32(base + 2)}, ports(m[0]), "the others are served")
	require.NoError(t, taken.Close())
	m, err = p.SetBrokers(brokers)
	require.NoError(t, err)
	require.Equal(t, map[int32]int32{1: int32(base + 1), 2: int32(base + 2)}, ports(m[0]), "the place of a broker stays its own")
}

// A broker that moves is dialled at its new address; connections to the old one stay.
func TestBrokerMoves(t *testing.T) {
	answer := func(n int) func(net.Conn) {
		return func(conn net.Conn) {
			for {
				if _, err := readFrame(conn); err != nil {
					return
				}
				_, _ = conn.Write(response(int32(n), 0))
			}
		}
	}
	one, two := newBroker(t, nil, answer(1)), newBroker(t, nil, answer(2))
	p, _ := newProxy(t, "")
	m, err := p.SetBrokers([]Broker{brokerAt(1, one)})
	require.NoError(t, err)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m[0][1].Port))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	expect := func(conn net.Conn, n int32) {
		_, err := conn.Write(request(kForward, 9, 0))
		require.NoError(t, err)
		got, err := readFrame(conn)
		require.NoError(t, err)
		require.Equal(t, response(n, 0), got)
	}
	old := dial()
	expect(old, 1)
	again, err := p.SetBrokers([]Broker{brokerAt(1, two)})
	require.NoError(t, err)
	require.Equal(t, m, again)
	expect(dial(), 2)
	expect(old, 1)
}

func TestSessionsKnowTheirBroker(t *testing.T) {
	b := newBroker(t, nil, nil)
	sessions := &recordingSessions{fakeSessions: &fakeSessions{}, clients: make(chan router.Client, 10)}
	p, err := New(Config{Listeners: []Listener{{Listen: "127.0.0.1:0"}}, Sessions: sessions, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = p.SetBrokers(nil)
	require.Error(t, err, "not before Start")
	require.NoError(t, p.Start())
	require.Error(t, p.Start(), "not twice")
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	p.SetBootstrap([]string{b.addr()})
	m, err := p.SetBrokers([]Broker{brokerAt(4, b)})
	require.NoError(t, err)
	ask(t, dialProxy(t, p, nil), kForward, 1, 1)
	require.Equal(t, router.Client{Broker: router.BootstrapID}, <-sessions.clients)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m[0][4].Port))
	require.NoError(t, err)
	defer conn.Close()
	ask(t, conn, kForward, 1, 1)
	require.Equal(t, router.Client{Broker: 4}, <-sessions.clients)
}

type recordingSessions struct {
	*fakeSessions
	clients chan router.Client
}

func (r *recordingSessions) NewSession(c router.Client) router.Session {
	r.clients <- c
	return r.fakeSessions.NewSession(c)
}

func TestConfigErrors(t *testing.T) {
	ok := Config{Listeners: []Listener{{Listen: "127.0.0.1:0"}}, Sessions: &fakeSessions{}}
	for want, change := range map[string]func(*Config){
		"Listeners is required":            func(c *Config) { c.Listeners = nil },
		"Sessions is required":             func(c *Config) { c.Sessions = nil },
		`listen address "x"`:               func(c *Config) { c.Listeners[0].Listen = "x" },
		`port "kafka" is not a number`:     func(c *Config) { c.Listeners[0].Listen = "h:kafka" },
		"no room for the brokers' ports":   func(c *Config) { c.Listeners[0].Listen = "h:65500" },
		"wildcard address 0.0.0.0":         func(c *Config) { c.Listeners[0].Listen = "0.0.0.0:9092" },
		"wildcard address ::":              func(c *Config) { c.Listeners[0].Listen, c.Listeners[0].Advertise = "127.0.0.1:1", "::" },
		"Config.MaxRequestBytes is negati": func(c *Config) { c.MaxRequestBytes = -1 },
	} {
		c := ok
		c.Listeners = slices.Clone(ok.Listeners)
		change(&c)
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
	c := ok
	c.Listeners[0].Listen, c.Listeners[0].Advertise = "0.0.0.0:0", "127.0.0.1"
	p, err := New(c)
	require.NoError(t, err)
	require.NoError(t, p.Close(), "never started")
	require.Error(t, p.Start())

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	c.Listeners[0].Listen = taken.Addr().String()
	p, err = New(c)
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(), "free the port")
	require.NoError(t, p.Close())
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		require.NotEmpty(t, r.String())
		require.False(t, seen[r.String()])
		seen[r.String()] = true
	}
	require.True(t, slices.Contains(Reasons(), ReasonInternal))
}
