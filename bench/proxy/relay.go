package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// relayBuffer is the number of bytes that the relay reads at a time.
const relayBuffer = 64 << 10

// Relay accepts connections at one address, and passes bytes between each of them and a connection
// of its own to another address, until ctx ends. It is the floor of a proxy in user space: two
// goroutines per connection, and no look at what passes. It calls ready once it listens.
//
// It copies through a buffer on purpose. io.Copy would use splice(2), with which a proxy sees no
// byte, so that would be no floor for a proxy that must look at frames.
func Relay(ctx context.Context, listen, to string, ready func()) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	unwatch := context.AfterFunc(ctx, func() { ln.Close() })
	defer unwatch()
	defer ln.Close()
	ready()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go relay(ctx, conn, to)
	}
}

func relay(ctx context.Context, client net.Conn, to string) {
	defer client.Close()
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return // the client sees its connection close, as behind any proxy
	}
	defer broker.Close()
	var wg sync.WaitGroup
	wg.Go(func() { pass(broker, client) })
	wg.Go(func() { pass(client, broker) })
	wg.Wait()
}

// pass copies until the end of src, and passes that end on.
func pass(dst, src net.Conn) {
	buf := make([]byte, relayBuffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	if tcp, ok := dst.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
		return
	}
	_ = dst.Close()
	_ = src.Close()
}
