package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// relayBuffer is what the relay reads at a time.
const relayBuffer = 64 << 10

// Relay accepts connections at one address and passes bytes on between each and a connection of its
// own to another address, until ctx ends. It is the floor of a proxy in user space: two goroutines
// per connection, and no idea of what passes. ready is called once it listens.
//
// It copies through a buffer on purpose: splice(2), which io.Copy would use, does not let a proxy
// see a byte, so it is no floor of one that has to look at frames.
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

// pass copies until the end of src, and hands that on.
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
