package telemetry

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Connections that send nothing, or an incomplete request, do not keep a probe out, and never
// exceed the limit.
func TestConnectionsThatOnlyWait(t *testing.T) {
	meter, err := NewMeter(context.Background(), testSources(), "v", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ready := func() error { return nil }
	server, err := Serve(ServerConfig{Addr: "127.0.0.1:0", Meter: meter, Ready: ready, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Shutdown(context.Background())) }()
	for _, send := range []string{"", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for range 3 * maxConnections {
			conn, err := net.Dial("tcp", server.Addr())
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, send)
			require.NoError(t, err)
		}
		client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for range 3 {
			resp, err := client.Get("http://" + server.Addr() + "/readyz")
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}
		server.limit.mu.Lock()
		open := len(server.limit.conns)
		server.limit.mu.Unlock()
		require.LessOrEqual(t, open, maxConnections)
	}
}

// A connection with a request in progress is not closed in favor of a new one.
func TestConnectionsAtWork(t *testing.T) {
	l := limit{most: 2}
	work := make(chan struct{})
	server := http.Server{ConnState: l.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-work
		_, _ = io.WriteString(w, "done")
	})}
	listener := newListener(t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ask := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		return conn
	}
	active := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range l.conns {
			if e == nil {
				n++
			}
		}
		return n
	}
	a, b := ask(), ask()
	require.Eventually(t, func() bool { return active() == 2 }, 20*time.Second, time.Millisecond)
	third, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer third.Close()
	require.NoError(t, third.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = third.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	close(work)
	for _, conn := range []net.Conn{a, b} {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "done", string(body))
		_ = resp.Body.Close()
	}
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
	// Each connection's own goroutine reports that it ended.
	require.Eventually(t, func() bool { return active() == 0 }, 20*time.Second, time.Millisecond)
}

// A client that sends or reads slowly is cut off. (The test does not check the constants.)
func TestTimesAreLimited(t *testing.T) {
	meter, err := NewMeter(context.Background(), testSources(), "v", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server, err := Serve(ServerConfig{Addr: "127.0.0.1:0", Meter: meter, Ready: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Shutdown(context.Background())) }()
	for name, d := range map[string]time.Duration{
		"head": server.http.ReadHeaderTimeout, "request": server.http.ReadTimeout, "idle": server.http.IdleTimeout,
	} {
		require.Positive(t, d, name)
		require.LessOrEqual(t, d, idleTime, name)
	}
	// The deadline for an answer is set for each request.
	reached := make(chan struct{})
	slow := within(50*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(reached)
		junk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	}))
	listener := newListener(t)
	s := http.Server{Handler: slow}
	go func() { _ = s.Serve(listener) }()
	defer s.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Fatal("a client that does not read holds the answer")
	}
}
