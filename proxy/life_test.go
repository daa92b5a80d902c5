package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// ask sends one request and checks the answer.
func ask(t testing.TB, conn net.Conn, kind int16, corr int32, n int) {
	t.Helper()
	_, err := conn.Write(request(kind, corr, n))
	require.NoError(t, err)
	got, err := readFrame(conn)
	require.NoError(t, err)
	require.True(t, bytes.Equal(wanted(kind, corr, n), got))
}

// Each case ends its own connection with the reason, after earlier requests were answered, and
// disturbs no other connection.
func TestConnectionsThatEnd(t *testing.T) {
	frame := func(size uint32, more ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), more...)
	}
	for name, c := range map[string]struct {
		send   []byte
		reason Reason
		panics int64
	}{
		"negative size":      {send: frame(0x80000000), reason: ReasonFrameSize},
		"size -1":            {send: frame(0xffffffff, 1, 2, 3), reason: ReasonFrameSize},
		"size 0":             {send: frame(0), reason: ReasonFrameSize},
		"size 7":             {send: frame(7, 1, 2, 3, 4, 5, 6, 7), reason: ReasonFrameSize},
		"one byte too large": {send: frame(1<<20 + 1), reason: ReasonFrameSize},
		"2 GiB":              {send: frame(0x7fffffff, bytes.Repeat([]byte{1}, 100_000)...), reason: ReasonFrameSize},
		"HTTP":               {send: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), reason: ReasonFrameSize},
		"garbage":            {send: frame(9, 1, 2, 3, 4, 5, 6, 7, 8, 9), reason: ReasonRequest},
		"half a frame":       {send: frame(1000, 0, 0, 0, 0), reason: ReasonIdle},
		"half a size":        {send: []byte{0, 0}, reason: ReasonIdle},
		"silence":            {send: nil, reason: ReasonIdle},
		"close":              {send: request(kClose, 5, 5), reason: ReasonRequest},
		"close from run":     {send: request(kRunClose, 5, 5), reason: ReasonRequest},
		"close from whole":   {send: request(kWholeClose, 5, 5), reason: ReasonRequest},
		"panic":              {send: request(kPanic, 5, 5), reason: ReasonPanic, panics: 1},
		"panic in run":       {send: request(kRunPanic, 5, 5), reason: ReasonRequest, panics: 1},
		"panic in whole":     {send: request(kWholePanic, 5, 5), reason: ReasonPanic, panics: 1},
		"panic in a stream":  {send: request(kStreamPanic, 5, 5), reason: ReasonPanic, panics: 1},
		"error of a stream":  {send: request(kStreamError, 5, 5), reason: ReasonResponse},
		"no frame":           {send: request(kBadForward, 5, 5), reason: ReasonInternal},
		"retry of nothing":   {send: request(kBadRetry, 5, 5), reason: ReasonInternal},
		"whole is too large": {send: request(kWholeAnswer, 5, 1<<16), reason: ReasonWholeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			broker := newBroker(t, nil, nil)
			p, _ := newProxy(t, broker.addr(), func(c *Config) {
				c.MaxRequestBytes, c.MaxWholeResponse = 1<<20, 1<<16
				if strings.HasPrefix(name, "half") || name == "silence" {
					c.IdleTimeout = 300 * time.Millisecond
				} else {
					c.IdleTimeout = 0
				}
			})
			other := dialProxy(t, p, nil)
			ask(t, other, kForward, 1, 10)
			conn := dialProxy(t, p, nil)
			ask(t, conn, kForward, 2, 10)
			// Requests sent before the end, in the same write, are answered.
			_, err := conn.Write(append(request(kAnswer, 3, 10), c.send...))
			require.NoError(t, err)
			got, err := readFrame(conn)
			require.NoError(t, err)
			require.Equal(t, wanted(kAnswer, 3, 10), got)
			for i := int32(0); c.reason == ReasonIdle && p.Stats().Closed(ReasonIdle) == 0; i++ {
				ask(t, other, kForward, i, 10) // not idle
			}
			expectClosed(t, conn)
			_ = conn.Close()
			eventually(t, "counted", func() bool { return p.Stats().Closed(c.reason) == 1 })
			require.Equal(t, c.panics, p.Stats().Panics.Load())
			ask(t, other, kForward, 4, 1000)
		})
	}
}

func TestWaitingForTheBrokerIsNotIdle(t *testing.T) {
	release := make(chan struct{})
	broker := newBroker(t, nil, func(conn net.Conn) {
		if _, err := readFrame(conn); err == nil {
			awaited(release)
			_, _ = conn.Write(response(1, 10))
			_, _ = readFrame(conn)
		}
	})
	p, _ := newProxy(t, broker.addr(), func(c *Config) { c.IdleTimeout = 500 * time.Millisecond })
	conn := dialProxy(t, p, nil)
	_, err := conn.Write(request(kForward, 1, 10))
	require.NoError(t, err)
	idle := dialProxy(t, p, nil)
	expectClosed(t, idle) // the time-out has passed for both, give or take a tick
	expectClosed(t, dialProxy(t, p, nil))
	close(release)
	got, err := readFrame(conn)
	require.NoError(t, err)
	require.Equal(t, response(1, 10), got)
	expectClosed(t, conn) // and now it is idle
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonIdle) == 3 })
}

// The broker closes right after a response of 20 MiB: every byte arrives.
func TestResponseBeforeTheBrokerCloses(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		const size = 20 << 20
		p, _ := w.proxy(t, func(conn net.Conn) {
			if _, err := readFrame(conn); err == nil {
				head := binary.BigEndian.AppendUint32(nil, 4+size)
				_, _ = conn.Write(append(head, 0, 0, 0, 1))
				_ = writePattern(conn, size)
			}
		})
		conn := dialProxy(t, p, w.client)
		_, err := conn.Write(request(kForward, 1, 0))
		require.NoError(t, err)
		eventually(t, "the response is under way", func() bool { return p.Stats().UpstreamReceived.Load() > size/10 })
		head := make([]byte, 8)
		_, err = io.ReadFull(conn, head)
		require.NoError(t, err)
		require.NoError(t, checkPattern(conn, size, func() {}))
		expectClosed(t, conn)
		_ = conn.Close()
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonUpstream) == 1 })
	})
}

// A producer with acks=0 sends and closes: every request still reaches the broker.
func TestRequestsBeforeTheClientCloses(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		p, broker := w.proxy(t, nil)
		conn := dialProxy(t, p, w.client)
		var out []byte
		const count = 3000
		for i := range int32(count) {
			out = append(out, request(kNoResponse, i, 0, make([]byte, 5000)...)...)
		}
		_, err := conn.Write(out)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		eventually(t, "all requests arrive", func() bool { return broker.got.Load() == count })
		eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonClient) == 1 })
	})
}

func TestBrokerMisbehaves(t *testing.T) {
	for name, send := range map[string][]byte{
		"unasked response": response(1, 10),
		"negative size":    {0x80, 0, 0, 0, 0, 0, 0, 0},
		"size 3":           {0, 0, 0, 3, 1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan struct{})
			broker := newBroker(t, nil, func(conn net.Conn) {
				if _, err := readFrame(conn); err == nil {
					if name == "unasked response" {
						_, _ = conn.Write(response(1, 10))
						awaited(answered)
					}
					_, _ = conn.Write(send)
					_, _ = readFrame(conn)
				}
			})
			p, _ := newProxy(t, broker.addr())
			conn := dialProxy(t, p, nil)
			_, _ = conn.Write(request(kForward, 1, 10))
			if name == "unasked response" { // comes after the answer
				got, err := readFrame(conn)
				require.NoError(t, err)
				require.Equal(t, response(1, 10), got)
			}
			close(answered)
			expectClosed(t, conn)
			eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonResponse) == 1 })
		})
	}
}

func TestExclusiveHoldsBackLaterRequests(t *testing.T) {
	for _, kind := range []int16{kExclusive, kRunForward} {
		var mu sync.Mutex
		var seen []int32
		release := make(chan struct{})
		broker := newBroker(t, nil, func(conn net.Conn) {
			for {
				f, err := readFrame(conn)
				if err != nil {
					return
				}
				corr := int32(binary.BigEndian.Uint32(f[8:]))
				mu.Lock()
				seen = append(seen, corr)
				mu.Unlock()
				if corr == 1 {
					awaited(release)
				}
				_, _ = conn.Write(response(corr, 1))
			}
		})
		p, sessions := newProxy(t, broker.addr())
		running := make(chan struct{}, 10)
		sessions.slowly(func() { running <- struct{}{}; awaited(release) })
		conn := dialProxy(t, p, nil)
		_, err := conn.Write(append(request(kind, 1, 1), request(kForward, 2, 1)...))
		require.NoError(t, err)
		if kind == kRunForward {
			<-running
		} else {
			eventually(t, "the broker is asked", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 1 })
		}
		// A later request on another connection completes while the second one waits.
		ask(t, dialProxy(t, p, nil), kForward, 3, 1)
		mu.Lock()
		asked := slices.Clone(seen)
		mu.Unlock()
		require.NotContains(t, asked, int32(2))
		close(release)
		for _, corr := range []int32{1, 2} {
			got, err := readFrame(conn)
			require.NoError(t, err)
			require.Equal(t, response(corr, 1), got)
		}
	}
}

func TestRunEndsWithItsConnection(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, sessions := newProxy(t, broker.addr())
	started := make(chan struct{})
	block := make(chan struct{})
	sessions.slowly(func() { close(started); <-block })
	conn := dialProxy(t, p, nil)
	_, err := conn.Write(request(kRunAnswer, 1, 1))
	require.NoError(t, err)
	<-started
	require.NoError(t, conn.Close())
	close(block) // there is no client for the answer
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonClient) == 1 })
}

func TestDrain(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		release := make(chan struct{})
		var asked sync.WaitGroup
		p, _ := w.proxy(t, func(conn net.Conn) {
			for {
				f, err := readFrame(conn)
				if err != nil {
					return
				}
				asked.Done()
				awaited(release)
				_, _ = conn.Write(response(int32(binary.BigEndian.Uint32(f[8:])), 3_000_000))
			}
		}, func(c *Config) { c.Loops = 1 }) // so that all connections drain at the same time
		busy, idle := dialProxy(t, p, w.client), dialProxy(t, p, w.client)
		asked.Add(1)
		_, err := busy.Write(request(kForward, 1, 0))
		require.NoError(t, err)
		_, err = idle.Write(request(kAnswer, 1, 1))
		require.NoError(t, err)
		_, err = readFrame(idle)
		require.NoError(t, err)
		other := dialProxy(t, p, w.client)
		_, err = other.Write(request(kWholeRun, 2, 3_000_000)[:15]) // half a request does not count
		require.NoError(t, err)
		asked.Wait()
		done := make(chan error, 1)
		go func() { done <- p.Shutdown(context.Background()) }()
		for _, conn := range []net.Conn{idle, other} {
			expectClosed(t, conn)
			_ = conn.Close()
		}
		_, err = net.Dial("tcp", p.Addr().String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		_, err = busy.Write(request(kAnswer, 3, 1)) // too late
		require.NoError(t, err)
		select {
		case <-done:
			t.Fatal("drained with a request in flight")
		default:
		}
		close(release)
		got, err := readFrame(busy)
		require.NoError(t, err)
		require.True(t, bytes.Equal(response(1, 3_000_000), got))
		expectClosed(t, busy)
		_ = busy.Close()
		require.NoError(t, <-done)
		require.EqualValues(t, 3, p.Stats().Closed(ReasonDrain))
	})
}

func TestDrainGivesUp(t *testing.T) {
	block := make(chan struct{})
	broker := newBroker(t, nil, func(net.Conn) { awaited(block) })
	defer close(block)
	p, sessions := newProxy(t, broker.addr())
	ran := make(chan struct{})
	sessions.slowly(func() { close(ran) })
	conn := dialProxy(t, p, nil)
	_, err := conn.Write(append(request(kForward, 1, 0), request(kRunAnswer, 2, 0)...))
	require.NoError(t, err)
	<-ran
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Shutdown(ctx), context.DeadlineExceeded)
	expectClosed(t, conn)
	require.NoError(t, p.Shutdown(context.Background()), "a second time")
}

// A Run that ignores its context does not keep klink from stopping.
func TestRunThatDoesNotEnd(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, sessions := newProxy(t, broker.addr())
	ran, block := make(chan struct{}), make(chan struct{})
	defer close(block)
	sessions.slowly(func() { close(ran); awaited(block) })
	_, err := dialProxy(t, p, nil).Write(request(kRunAnswer, 2, 0))
	require.NoError(t, err)
	<-ran
	require.NoError(t, p.Close())
}

func TestLimitOfConnections(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), func(c *Config) { c.MaxConnections = 2 })
	a, b := dialProxy(t, p, nil), dialProxy(t, p, nil)
	ask(t, a, kForward, 1, 1)
	ask(t, b, kForward, 1, 1)
	expectClosed(t, dialProxy(t, p, nil))
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonLimit) == 1 })
	require.NoError(t, a.Close())
	eventually(t, "room again", func() bool { return p.Stats().Connections.Load() == 1 })
	ask(t, dialProxy(t, p, nil), kForward, 2, 1)
}

func TestBrokerCannotBeReached(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr())
	p.SetBootstrap(nil)
	expectClosed(t, askProxy(t, p))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := ln.Addr().String()
	require.NoError(t, ln.Close())
	p.SetBootstrap([]string{dead})
	expectClosed(t, askProxy(t, p))
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonDial) == 2 })
	p.SetBootstrap([]string{dead, broker.addr()}) // the next one is tried
	ask(t, dialProxy(t, p, nil), kForward, 1, 1)
	require.Equal(t, []string{broker.addr(), dead}, p.seeds.Load().inOrder(), "and is the first to be tried from then on")
}

func TestDialTimeout(t *testing.T) {
	p, _ := newProxy(t, "127.0.0.1:1", func(c *Config) {
		c.DialTimeout = 20 * time.Millisecond
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	})
	expectClosed(t, askProxy(t, p))
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonDial) == 1 })
}

func TestDiallerPanicsOrReturnsNoSocket(t *testing.T) {
	var pipe atomic.Bool
	p, _ := newProxy(t, "127.0.0.1:1", func(c *Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			if !pipe.Load() {
				panic("dial")
			}
			a, b := net.Pipe()
			_ = b.Close()
			return a, nil
		}
	})
	expectClosed(t, askProxy(t, p))
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonPanic) == 1 })
	pipe.Store(true)
	expectClosed(t, askProxy(t, p))
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonInternal) == 1 })
}

// Running out of file descriptors stops nothing: the listener waits, and accepts again when some
// are free.
func TestNoFileDescriptorLeft(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr())
	before := dialProxy(t, p, nil)
	ask(t, before, kForward, 1, 1)
	clients := make([]net.Conn, 0, 3)
	for range 3 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fd), "client")
		addr := p.Addr().(*net.TCPAddr)
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		low := limit
		low.Cur = 3 // less than are in use: no new one can be opened
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())})
		ask(t, before, kForward, 2, 1000) // established connections go on
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		require.NoError(t, err)
		conn, err := net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, conn.SetDeadline(time.Now().Add(requestTimeout)))
		clients = append(clients, conn)
	}
	for _, conn := range clients {
		// The connection was either accepted later and works, or accepted and closed because there
		// was no descriptor for the broker.
		if _, err := conn.Write(request(kForward, 3, 1)); err == nil {
			if got, err := readFrame(conn); err == nil {
				require.Equal(t, response(3, 1), got)
			}
		}
		_ = conn.Close()
	}
	ask(t, dialProxy(t, p, nil), kForward, 4, 1)
}

// Idle connections cost little memory, and no goroutine.
func TestIdleConnections(t *testing.T) {
	for name, c := range map[string]struct{ count, budget int64 }{"plain-plain": {2000, 4 << 10}, "tls-tls": {500, 16 << 10}} {
		t.Run(name, func(t *testing.T) {
			count, budget := int(c.count), c.budget
			var limit unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			limit.Cur = limit.Max
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			var w wire
			if name == "tls-tls" {
				w.broker, w.client = testTLS(t)
				w.proxyServer, w.proxyClient = w.broker, w.client
			}
			// Clients and the broker are raw sockets without goroutines, so that the test measures
			// only the proxy.
			p, _ := newProxy(t, "", func(c *Config) {
				c.Listeners[0].TLS, c.UpstreamTLS = w.proxyServer, w.upstream()
			})
			idle := newIdlePeers(t, p, w)
			idle.open(100) // pools, maps and the like
			before, goroutines := memory(t).heapNow(), numGoroutines()
			idle.open(count)
			after := memory(t).heapNow()
			require.EqualValues(t, count+100, p.Stats().Connections.Load())
			per := (after - before - idle.heap) / c.count
			t.Logf("%d bytes per idle connection", per)
			require.Less(t, per, budget)
			require.Less(t, numGoroutines()-goroutines, count/4) // gnet's workers stay for 10 s
			idle.askAll()
		})
	}
}

func TestStatsAndLog(t *testing.T) {
	var mu sync.Mutex
	var lines bytes.Buffer
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr(), func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &lines}, nil))
	})
	conn := dialProxy(t, p, nil)
	converse(t, conn, []testRequest{{kind: kForward, n: 100}, {kind: kForward, n: 1}, {kind: kAnswer, n: 5}}, 10, rand.New(rand.NewPCG(1, 1)))
	got := map[[2]int16]int64{}
	p.Stats().EachRequest(func(key, version int16, n int64) { got[[2]int16{key, version}] = n })
	require.Equal(t, map[[2]int16]int64{{kForward, 0}: 2, {kAnswer, 0}: 1}, got)
	st := p.Stats()
	require.EqualValues(t, 3*16, st.ClientReceived.Load())
	require.EqualValues(t, 8+100+8+1, st.UpstreamReceived.Load())
	// Bytes are counted after they were sent, so wait.
	eventually(t, "bytes sent are counted", func() bool {
		return st.UpstreamSent.Load() == 2*16 && st.ClientSent.Load() == 8+100+8+1+8+5
	})
	for range 5 { // logged once, counted always
		bad := dialProxy(t, p, nil)
		_, err := bad.Write([]byte{0x80, 0, 0, 0})
		require.NoError(t, err)
		expectClosed(t, bad)
		_ = bad.Close()
	}
	eventually(t, "counted", func() bool { return p.Stats().Closed(ReasonFrameSize) == 5 })
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, strings.Count(lines.String(), "reason=frame_size"), lines.String())
	require.Contains(t, lines.String(), "client=127.0.0.1:")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestRequestCounters(t *testing.T) {
	var s Stats
	for _, kv := range [][2]uint16{{0, 13}, {1, 18}, {92, 0}, {15000, 0}, {15015, 31}, {15016, 0}, {500, 0}, {3, 32}, {65535, 65535}, {110, 31}} {
		s.countRequest(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(make([]byte, 4), kv[0]), kv[1]))
	}
	got := map[[2]int16]int64{}
	s.EachRequest(func(key, version int16, n int64) { got[[2]int16{key, version}] += n })
	require.Equal(t, map[[2]int16]int64{
		{0, 13}: 1, {1, 18}: 1, {92, 0}: 1, {15000, 0}: 1, {15015, 31}: 1, {-1, -1}: 4, {110, 31}: 1,
	}, got)
}
