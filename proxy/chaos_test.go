package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Clients and brokers do everything wrong at once, on every wire: sessions panic, sockets close in
// the middle of frames, readers stall, connections are reset. A well-behaved client among them
// notices nothing, and nothing is left at the end.
func TestChaos(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		var seeds sync.Mutex
		source := rand.New(rand.NewPCG(1, 2))
		newRand := func() *rand.Rand {
			seeds.Lock()
			defer seeds.Unlock()
			return rand.New(rand.NewPCG(source.Uint64(), 3))
		}
		good := newBroker(t, w.broker, nil)
		p, _ := w.proxy(t, func(conn net.Conn) {
			rnd := newRand()
			for {
				f, err := readFrame(conn)
				if err != nil || rnd.IntN(30) == 0 {
					return
				}
				out := response(int32(rnd.Uint32()), rnd.IntN(200_000))
				switch rnd.IntN(20) {
				case 0:
					out = out[:rnd.IntN(len(out))] // and close
				case 1:
					rnd2 := byte(rnd.Uint32())
					out[0] ^= rnd2 // another size
				}
				if _, err := conn.Write(out); err != nil || len(f) == 0 {
					return
				}
			}
		}, func(c *Config) { c.IdleTimeout = 10 * time.Second; c.MaxRequestBytes = 1 << 20 })
		addrs, err := p.SetBrokers([]Broker{brokerAt(1, good)})
		require.NoError(t, err)

		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			rnd := newRand()
			go func() {
				defer wg.Done()
				for range 15 {
					badClient(p, w, rnd)
				}
			}()
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		conn := dialPort(t, w, addrs[0][1].Port)
		for i := int32(0); ; i++ {
			ask(t, conn, []int16{kForward, kStream, kWholeForward, kRunRetry}[i%4], i, int(i)*1000%300_000)
			select {
			case <-done:
			default:
				continue
			}
			break
		}
		_ = conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		// A broker that announced more bytes than it sent owes them to a client whose exit the
		// proxy may not have seen. Such a request does not finish, and the end of ctx closes the
		// rest.
		if err := p.Shutdown(ctx); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Zero(t, p.Stats().Connections.Load())
	})
}

func badClient(p *Proxy, w wire, rnd *rand.Rand) {
	raw, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		return
	}
	defer raw.Close()
	if rnd.IntN(2) == 0 {
		_ = raw.(*net.TCPConn).SetLinger(0) // a reset instead of an orderly end
	}
	_ = raw.SetDeadline(time.Now().Add(time.Second))
	conn := w.secure(raw)
	if rnd.IntN(2) == 0 {
		go func() { _, _ = io.Copy(io.Discard, conn) }()
	}
	for range rnd.IntN(20) {
		out := request(int16(rnd.IntN(int(kinds)+1)), int32(rnd.Uint32()), rnd.IntN(100_000), make([]byte, rnd.IntN(100_000))...)
		switch rnd.IntN(15) {
		case 0:
			out = out[:rnd.IntN(len(out))]
		case 1:
			out[rnd.IntN(4)] ^= byte(rnd.Uint32())
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
		if rnd.IntN(4) == 0 {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
		}
	}
}
