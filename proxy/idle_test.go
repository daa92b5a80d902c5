package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func numGoroutines() int { return runtime.NumGoroutine() }

// heapNow is the live heap and the stacks, garbage not counted.
func (usage) heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// idlePeers are clients and brokers' ends without goroutines.
type idlePeers struct {
	t       *testing.T
	p       *Proxy
	w       wire
	ln      net.Listener
	clients []net.Conn
	brokers chan net.Conn
	ends    []net.Conn
	heap    int64 // used by the peers themselves, measured without a proxy
}

func newIdlePeers(t *testing.T, p *Proxy, w wire) *idlePeers {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	i := &idlePeers{t: t, p: p, w: w, ln: ln, brokers: make(chan net.Conn)}
	p.SetBootstrap([]string{ln.Addr().String()})
	go func() {
		defer close(i.brokers)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if w.broker != nil {
				server := tls.Server(conn, w.broker)
				if server.HandshakeContext(context.Background()) != nil {
					_ = conn.Close()
					continue
				}
				conn = server
			}
			i.brokers <- conn
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		for range i.brokers {
		}
		for _, c := range append(i.clients, i.ends...) {
			_ = c.Close()
		}
	})
	return i
}

// open opens n connections through the proxy, and measures the memory of n direct ones.
func (i *idlePeers) open(n int) {
	p := i.p.Addr().String()
	before := memory(i.t).heapNow()
	var direct []net.Conn
	for range n / 10 {
		conn := i.dial(i.ln.Addr().String(), i.w.broker != nil)
		direct = append(direct, conn, <-i.brokers)
	}
	i.heap = (memory(i.t).heapNow() - before) * 10
	for _, c := range direct {
		_ = c.Close()
	}
	for range n {
		// The first request opens the connection to the broker.
		k := len(i.clients)
		i.clients = append(i.clients, i.dial(p, i.w.client != nil))
		i.send(k)
		i.ends = append(i.ends, <-i.brokers)
		i.answer(k)
	}
}

// dial returns a client's end.
func (i *idlePeers) dial(addr string, secure bool) net.Conn {
	conn, err := net.Dial("tcp", addr)
	require.NoError(i.t, err)
	require.NoError(i.t, conn.SetDeadline(time.Now().Add(4*requestTimeout)))
	if secure {
		c := tls.Client(conn, i.w.client)
		require.NoError(i.t, c.HandshakeContext(context.Background()))
		conn = c
	}
	return conn
}

func (i *idlePeers) ask(k int) {
	i.send(k)
	i.answer(k)
}

func (i *idlePeers) send(k int) {
	_, err := i.clients[k].Write(request(kForward, int32(k), 20))
	require.NoError(i.t, err)
}

func (i *idlePeers) answer(k int) {
	corr := int32(k)
	_, err := readFrame(i.ends[k])
	require.NoError(i.t, err)
	_, err = i.ends[k].Write(response(corr, 20))
	require.NoError(i.t, err)
	got, err := readFrame(i.clients[k])
	require.NoError(i.t, err)
	require.Equal(i.t, response(corr, 20), got)
}

func (i *idlePeers) askAll() {
	for k := range i.clients {
		i.ask(k)
	}
}
