package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"klink/router"
)

// loginSessions are sessions for brokers with SASL. A request with the correlation id loggedIn
// stands for a login with its proof, one with loggedInQuietly for a login that only the broker
// knows of.
type loginSessions struct{ fakeSessions }

const loggedIn, loggedInQuietly = 77, 78

func (f *loginSessions) NewSession(c router.Client) router.Session {
	return &loginSession{Session: f.fakeSessions.NewSession(c)}
}

type loginSession struct {
	router.Session
	proven, served bool
}

func (s *loginSession) Proven() bool { return s.proven }

func (s *loginSession) Request(frame []byte) router.Decision {
	corr := binary.BigEndian.Uint32(frame[8:])
	s.proven, s.served = s.proven || corr == loggedIn, s.served || corr == loggedIn || corr == loggedInQuietly
	return s.Session.Request(frame)
}

func (s *loginSession) Prove() router.Decision {
	return router.Decision{Action: router.Forward, Frame: request(kForward, 1, 0), Whole: func([]byte) router.Decision {
		if !s.served {
			return router.Decision{Action: router.Close, Err: errors.New("not logged in")}
		}
		s.proven = true
		return router.Decision{Action: router.Drop}
	}}
}

// withLogin makes a proxy before brokers with SASL.
func withLogin(c *Config) { c.SASL, c.Sessions = true, new(loginSessions) }

// countDials counts the connections to brokers.
func countDials(n *atomic.Int64) func(*Config) {
	return func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			n.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
}

// announce sends the first bytes of a frame that claims to have a size.
func announce(conn net.Conn, size, part int) error {
	head := make([]byte, max(part, 16))
	copy(head, request(kForward, 1, 1))
	binary.BigEndian.PutUint32(head, uint32(size))
	_, err := conn.Write(head[:part])
	return err
}

// upload sends a whole request and checks the answer.
func upload(t testing.TB, conn net.Conn, corr int32, size int) {
	t.Helper()
	_, err := conn.Write(request(kForward, corr, 10, make([]byte, size)...))
	require.NoError(t, err)
	got, err := readFrame(conn)
	require.NoError(t, err)
	require.Equal(t, response(corr, 10), got)
}

func raiseFileLimit(t testing.TB) {
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	limit.Cur = limit.Max
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
}

// Strangers announce large frames and send half of them. klink's memory for them stays within their
// part of the budget, however many they are. A client that was already connected goes on, and a new
// one can connect and send a large request.
func TestStrangersWithUnfinishedFrames(t *testing.T) {
	const largest, total = 64 << 20, 128 << 20
	junk := make([]byte, 256<<10)
	raiseFileLimit(t)
	server, client := testTLS(t)
	secure := wire{proxyServer: server, client: client, broker: server, proxyClient: client}
	for name, sasl := range map[string]bool{"no login": false, "before the login": true} {
		t.Run(name, func(t *testing.T) {
			for _, count := range []int{10, 100, 1000} {
				t.Run(strconv.Itoa(count), func(t *testing.T) {
					unfinishedFrames(t, wire{}, count, sasl, largest, total, junk)
				})
			}
			t.Run("100 with TLS", func(t *testing.T) { unfinishedFrames(t, secure, 100, sasl, largest, total, junk) })
		})
	}
}

func unfinishedFrames(t *testing.T, w wire, count int, sasl bool, largest, total int, junk []byte) {
	p, _ := w.proxy(t, nil, func(c *Config) {
		c.MaxRequestBytes, c.RequestMemory, c.LoginTimeout = largest, int64(total), 10*requestTimeout
		if sasl {
			withLogin(c)
		}
	})
	client := func() net.Conn {
		conn := dialProxy(t, p, w.client)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*requestTimeout)))
		ask(t, conn, kForward, loggedIn, 10)
		return conn
	}
	honest := client()
	debug.FreeOSMemory()
	before, heap := memory(t).heap, int64(0)
	var strangers sync.WaitGroup
	var stuck atomic.Int64 // strangers that have sent everything, or are blocked
	conns := make([]net.Conn, count)
	for i := range conns {
		conn, err := net.Dial("tcp", p.Addr().String())
		require.NoError(t, err)
		conns[i] = conn
		strangers.Go(func() {
			defer stuck.Add(1)
			secure := w.secure(conn)
			if announce(secure, largest, 1000) != nil {
				return
			}
			for sent := 0; sent < largest/2; sent += len(junk) {
				_ = conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				if _, err := secure.Write(junk); err != nil {
					return
				}
			}
		})
	}
	var most int64
	for i := int32(100); stuck.Load() < int64(count) || i < 200; i++ {
		ask(t, honest, kForward, i, 1000)
		most, heap = max(most, p.Stats().RequestMemory.Load()), max(heap, memory(t).heap-before)
		time.Sleep(time.Millisecond)
	}
	upload(t, honest, 5, 4<<20)
	upload(t, client(), 5, 4<<20)
	t.Logf("at most %.1f MiB of requests, heap +%.1f MiB", float64(most)/(1<<20), float64(heap)/(1<<20))
	require.LessOrEqual(t, most, int64(total-largest)/2, "strangers have half of what is not for the largest request")
	// The runtime returns memory late, and clients and broker are in this process.
	require.Less(t, heap, int64(2*total))
	for _, conn := range conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // klink would not read as far as a FIN
		_ = conn.Close()
	}
	strangers.Wait()
	eventually(t, "nothing is held any more", func() bool { return p.Stats().RequestMemory.Load() == 0 })
}

// Known clients fill the budget together. Each gets its turn, and all requests arrive whole.
func TestRequestsLargerThanTheBudget(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		const largest, total, count = 8 << 20, 64 << 20, 24
		p, _ := w.proxy(t, nil, func(c *Config) { c.MaxRequestBytes, c.RequestMemory = largest+1024, total })
		var clients sync.WaitGroup
		for range count {
			conn := dialProxy(t, p, w.client)
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*requestTimeout)))
			ask(t, conn, kForward, 1, 1)
			clients.Go(func() {
				for corr := range int32(3) {
					if _, err := conn.Write(request(kForward, corr, 10, make([]byte, largest)...)); err != nil {
						t.Error(err)
						return
					}
					if got, err := readFrame(conn); err != nil || string(got) != string(response(corr, 10)) {
						t.Errorf("%x, %v", got, err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { clients.Wait(); close(done) }()
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-time.After(time.Millisecond):
			}
			require.LessOrEqual(t, p.Stats().RequestMemory.Load(), int64(total))
		}
		require.Zero(t, p.Stats().Closed(ReasonMemory))
		eventually(t, "nothing is held any more", func() bool { return p.Stats().RequestMemory.Load() == 0 })
	})
}

// Known clients fill the budget with requests that they do not finish. klink closes them, and
// serves others.
func TestKnownClientsThatDoNotFinish(t *testing.T) {
	const largest = 4 << 20
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), func(c *Config) {
		c.MaxRequestBytes, c.RequestMemory, c.FrameTimeout = largest, 4*largest, time.Second
	})
	const count = 20
	for range count {
		conn := dialProxy(t, p, nil)
		ask(t, conn, kForward, 1, 1)
		go func() {
			if announce(conn, largest, largest/2) == nil {
				trickle(conn)
			}
		}()
	}
	eventually(t, "the budget is used up", func() bool { return p.Stats().Closed(ReasonFrameTime)+p.Stats().Closed(ReasonMemory) > 0 })
	conn := dialProxy(t, p, nil)
	upload(t, conn, 1, 1<<20)
	eventually(t, "all are closed", func() bool { return p.Stats().Connections.Load() == 1 })
	require.EqualValues(t, count, p.Stats().Closed(ReasonFrameTime)+p.Stats().Closed(ReasonMemory))
}

// trickle sends a byte now and then until that fails.
func trickle(conn net.Conn) {
	for {
		if _, err := conn.Write([]byte{0}); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// klink closes a client that goes on sending a little and never finishes, whatever those bytes are
// a part of. It does not close an honest client.
func TestSlowloris(t *testing.T) {
	server, client := testTLS(t)
	tlsWire := wire{proxyServer: server, client: client}
	for name, c := range map[string]struct {
		w      wire
		sasl   bool
		attack func(raw, conn net.Conn)
		reason Reason
		or     Reason // an alternative reason; 0 = none
	}{
		"silence":                 {attack: func(_, _ net.Conn) {}, reason: ReasonLogin},
		"silence before a login":  {sasl: true, attack: func(_, _ net.Conn) {}, reason: ReasonLogin},
		"half a size":             {attack: func(_, conn net.Conn) { _, _ = conn.Write([]byte{0, 0}) }, reason: ReasonLogin},
		"a frame of the stranger": {attack: func(_, conn net.Conn) { _ = announce(conn, 1<<20, 5); trickle(conn) }, reason: ReasonLogin},
		"a frame of the client": {attack: func(_, conn net.Conn) {
			_, _ = conn.Write(request(kForward, 1, 1))
			_, _ = readFrame(conn)
			_ = announce(conn, 1<<20, 5)
			trickle(conn)
		}, reason: ReasonFrameTime},
		"a frame after the login": {sasl: true, attack: func(_, conn net.Conn) {
			_, _ = conn.Write(request(kForward, loggedIn, 1))
			_, _ = readFrame(conn)
			_ = announce(conn, 1<<20, 5)
			trickle(conn)
		}, reason: ReasonFrameTime},
		"requests instead of a login": {sasl: true, attack: func(_, conn net.Conn) {
			for i := int32(0); ; i++ {
				if _, err := conn.Write(request(kForward, i%70, 1)); err != nil {
					return
				}
				if _, err := readFrame(conn); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, reason: ReasonLogin, or: ReasonRequest}, // the broker does not serve it
		"a TLS handshake": {w: tlsWire, attack: func(raw, _ net.Conn) {
			_, _ = raw.Write([]byte{0x16, 3, 1, 2, 0})
			trickle(raw)
		}, reason: ReasonTLS},
		"silence after the TLS handshake": {w: tlsWire, attack: func(_, conn net.Conn) {
			_ = conn.(interface{ Handshake() error }).Handshake()
		}, reason: ReasonLogin},
		"a TLS record of the client": {w: tlsWire, attack: func(raw, conn net.Conn) {
			_, _ = conn.Write(request(kForward, 1, 1))
			_, _ = readFrame(conn)
			_, _ = raw.Write([]byte{0x17, 3, 3, 0x40, 0})
			trickle(raw)
		}, reason: ReasonFrameTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := c.w.proxy(t, nil, func(config *Config) {
				config.LoginTimeout, config.FrameTimeout = 500*time.Millisecond, 500*time.Millisecond
				if c.sasl {
					withLogin(config)
				}
			})
			honest := dialProxy(t, p, c.w.client)
			ask(t, honest, kForward, loggedIn, 1)
			raw := dialProxy(t, p, nil)
			conn := c.w.secure(raw)
			done := make(chan struct{})
			go func() { defer close(done); c.attack(raw, conn) }()
			eventually(t, "closed", func() bool {
				return p.Stats().Closed(c.reason) == 1 || c.or != 0 && p.Stats().Closed(c.or) == 1
			})
			_ = raw.Close()
			<-done
			// The honest client makes a longer pause, and takes longer than that in total.
			time.Sleep(600 * time.Millisecond)
			for i := range int32(8) {
				ask(t, honest, kForward, i, 10)
				time.Sleep(100 * time.Millisecond)
			}
			eventually(t, "nobody else is closed", func() bool { return p.Stats().Connections.Load() == 1 })
		})
	}
}

// A client that logs in and then sends nothing stays: the broker confirms that it serves the
// client.
func TestQuietClientAfterItsLogin(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), withLogin, func(c *Config) { c.LoginTimeout = 300 * time.Millisecond })
	conn, stranger := dialProxy(t, p, nil), dialProxy(t, p, nil)
	ask(t, conn, kForward, loggedInQuietly, 1)
	ask(t, stranger, kForward, 1, 1)
	expectClosed(t, stranger)
	time.Sleep(time.Second)
	ask(t, conn, kForward, 2, 1)
	upload(t, conn, 3, 1<<20)
}

// klink reads a large request slowly if the broker reads it slowly; klink does not blame the client
// for that.
func TestSlowBrokerIsNoSlowFrame(t *testing.T) {
	const size, count = 1 << 20, 12
	broker := newBroker(t, nil, func(conn net.Conn) {
		for range count {
			time.Sleep(200 * time.Millisecond)
			f, err := readFrame(conn)
			if err != nil {
				return
			}
			_, _ = conn.Write(response(int32(binary.BigEndian.Uint32(f[8:])), 1))
		}
		_, _ = readFrame(conn)
	})
	p, _ := newProxy(t, broker.addr(), func(c *Config) { c.FrameTimeout = 500 * time.Millisecond })
	conn := dialProxy(t, p, nil)
	go func() {
		for i := range int32(count) {
			if _, err := conn.Write(request(kForward, i, 1, make([]byte, size)...)); err != nil {
				return
			}
		}
	}()
	for i := range int32(count) {
		got, err := readFrame(conn)
		require.NoError(t, err)
		require.Equal(t, response(i, 1), got)
	}
}

// Before the login a request may be as large as a broker accepts then.
func TestFramesBeforeTheLogin(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		p, _ := w.proxy(t, nil, withLogin)
		refused := func(corr int32, first bool, size int) {
			t.Helper()
			conn := dialProxy(t, p, w.client)
			if !first {
				ask(t, conn, kForward, corr, 1)
			}
			require.NoError(t, announce(conn, size, 1000))
			expectClosed(t, conn)
			_ = conn.Close()
		}
		refused(0, true, loginFrame+1)
		counted := func(r Reason) { eventually(t, "counted", func() bool { return p.Stats().Closed(r) == 1 }) }
		counted(ReasonFrameSize)
		refused(1, false, loginFrame+1) // the broker is asked, and does not serve it
		counted(ReasonRequest)
		refused(1, true, 100<<20)

		conn := dialProxy(t, p, w.client)
		upload(t, conn, 1, loginFrame-12)
		for _, corr := range []int32{loggedIn, loggedInQuietly} { // proven, or to be proven now
			conn := dialProxy(t, p, w.client)
			ask(t, conn, kForward, corr, 1)
			upload(t, conn, 1, 3<<20)
			upload(t, conn, 2, 3<<20)
		}
	})
}

// A client that sends no request costs the broker no connection.
func TestNoRequestNoDial(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		var n atomic.Int64
		p, _ := w.proxy(t, nil, countDials(&n), func(c *Config) { c.LoginTimeout = 300 * time.Millisecond })
		for _, send := range [][]byte{nil, {0}, {0, 0, 0, 20, 0, 0}, {0x80, 0, 0, 0}, {0, 0, 0, 1}, []byte("GET / HTTP/1.1\r\n\r\n")} {
			conn := dialProxy(t, p, w.client)
			if c, ok := conn.(interface{ Handshake() error }); ok {
				require.NoError(t, c.Handshake())
			}
			_, err := conn.Write(send)
			require.NoError(t, err)
			expectClosed(t, conn)
		}
		require.Zero(t, n.Load())
		conn := dialProxy(t, p, w.client)
		for i := range int32(3) {
			ask(t, conn, kForward, i, 10)
		}
		require.EqualValues(t, 1, n.Load())
	})
}

// When a client leaves, klink stops dialling for it.
func TestDialEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	p, _ := newProxy(t, "127.0.0.1:1", func(c *Config) {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		}
		c.DialTimeout = 10 * requestTimeout
	})
	conn := askProxy(t, p)
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, conn.Close())
	select {
	case <-ended:
	case <-time.After(requestTimeout):
		t.Fatal("the dial goes on")
	}
}

func TestConnectionsPerIP(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), func(c *Config) { c.MaxConnectionsPerIP = 2 })
	from := func(ip string) net.Conn {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", p.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(requestTimeout)))
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	a, b := from("127.0.0.1"), from("127.0.0.1")
	ask(t, a, kForward, 1, 1)
	ask(t, b, kForward, 1, 1)
	for range 3 {
		expectClosed(t, from("127.0.0.1"))
	}
	ask(t, from("127.0.0.2"), kForward, 1, 1)
	require.EqualValues(t, 3, p.Stats().Closed(ReasonLimit))
	require.NoError(t, a.Close())
	eventually(t, "room again", func() bool { return p.Stats().Connections.Load() == 2 })
	ask(t, from("127.0.0.1"), kForward, 2, 1)
	expectClosed(t, from("127.0.0.1"))
}

func TestHolderOfAnAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2:ffff::": "2001:db8:1:2::",
		"fe80::1%eth0": "fe80::",
	} {
		require.Equal(t, want, holder(netip.MustParseAddr(addr)).String())
	}
	l := perIP{limit: 1}
	require.True(t, l.enter(netip.MustParseAddr("2001:db8::1")))
	require.False(t, l.enter(netip.MustParseAddr("2001:db8::2")))
	for range 2 {
		l.leave(netip.MustParseAddr("2001:db8::3"))
	}
	require.Empty(t, l.conns)
}

func TestConnectionRate(t *testing.T) {
	now := time.Unix(1000, 0)
	r := rate{limit: 10}
	var waits []time.Duration
	for range 13 {
		waits = append(waits, r.delay(now))
	}
	for _, d := range waits[:10] {
		require.Zero(t, d, "a second's worth may come at once")
	}
	require.Equal(t, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}, waits[10:])
	require.Zero(t, r.delay(now.Add(10*time.Second)))
	require.Zero(t, new(rate).delay(now))

	synctest.Test(t, func(t *testing.T) {
		r, begin := rate{limit: 10}, time.Now()
		for range 15 {
			require.True(t, r.wait(nil))
		}
		require.Equal(t, 500*time.Millisecond, time.Since(begin), "on the clock of the test")
	})

	// Connections that come too soon wait; none is closed, and a shutdown does not wait for them.
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), func(c *Config) { c.MaxConnectionRate = 20 })
	for range 25 {
		ask(t, dialProxy(t, p, nil), kForward, 1, 1)
	}
	require.Zero(t, p.Stats().Closed(ReasonLimit))
	slow, _ := newProxy(t, broker.addr(), func(c *Config) { c.MaxConnectionRate = 1 })
	later := time.Now().Add(time.Hour)
	next := func(set time.Time) time.Time {
		slow.rate.mu.Lock()
		defer slow.rate.mu.Unlock()
		if !set.IsZero() {
			slow.rate.next = set
		}
		return slow.rate.next
	}
	next(later)
	for range 200 {
		conn, err := net.Dial("tcp", slow.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
	}
	eventually(t, "a connection is counted", func() bool { return next(time.Time{}).After(later) })
	require.Zero(t, slow.Stats().Accepted.Load(), "the first is due in an hour")
	closed := make(chan error)
	go func() { closed <- slow.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("a shutdown waits for connections that wait")
	}
	require.Zero(t, slow.Stats().Accepted.Load())
}
