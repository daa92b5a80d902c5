package proxy

import (
	"bytes"
	"io"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// tlsBuffered is the memory that a pair's TLS connections hold in their buffers.
func (x *pair) tlsBuffered() (n int) {
	for _, s := range []*side{&x.client, &x.up} {
		if s.tls != nil {
			for _, at := range tlsBuffers {
				n += (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(s.tls.conn), at)).Cap()
			}
		}
	}
	return n
}

// TestIdleTLSGivesBuffersBack: full records make crypto/tls keep tens of kilobytes. When the
// connection idles, these buffers are freed, and it works as before.
func TestIdleTLSGivesBuffersBack(t *testing.T) {
	require.Len(t, tlsBuffers, 2, "this Go's tls.Conn has other fields: look for a way to give its buffers back")
	server, client := testTLS(t)
	w := wire{proxyServer: server, client: client, broker: server, proxyClient: client}
	p, _ := w.proxy(t, nil)
	conn := dialProxy(t, p, w.client)
	buffered := func() (total int) {
		counts := make(chan int)
		for _, l := range p.eventLoops() {
			require.NoError(t, l.executeLoop(func() {
				n := 0
				l.wheel.each(func(x *pair) {
					n += x.tlsBuffered()
					if idle := l.wheel.now - x.last; x.slimmed && idle < p.ticks(slimAfter) {
						t.Errorf("the buffers are given back after %d ticks, while the connection is at work", idle)
					}
				})
				counts <- n
			}))
			total += <-counts
		}
		return total
	}
	exchange := func(i int32) {
		const size = 300_000
		_, err := conn.Write(request(kForward, i, size, make([]byte, size)...))
		require.NoError(t, err)
		got := make([]byte, 8+size)
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, response(i, size), got)
	}
	for i := range int32(3) {
		eventually(t, "both sides have read full records", func() bool {
			exchange(i)
			return buffered() > 30_000 // on a busy machine the connection may have idled since
		})
		eventually(t, "the buffers are given back", func() bool { return buffered() == 0 })
	}
}
