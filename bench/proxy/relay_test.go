package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"klink/bench/wire"
)

func TestRelay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn) // until the client has ended its half
				_ = conn.Close()
			}()
		}
	}()
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := spare.Addr().String()
	require.NoError(t, spare.Close())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Relay(t.Context(), addr, ln.Addr().String(), func() { close(ready) }) }()
	<-ready
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	require.NoError(t, err)
	defer conn.Close()
	sent := wire.RecordBatch(300_000, 1)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, sent, got)
	t.Cleanup(func() { require.NoError(t, <-done) })
}
