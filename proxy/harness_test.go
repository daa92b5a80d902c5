package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"klink/router"
)

// The frames of these tests are requests of a fixed form: size, kind (as the API key), version,
// correlation id, and a body. The body begins with the number of bytes that follow the correlation
// id in the fake broker's response. Those bytes depend on the correlation id alone, so the dumb
// twin `wanted` knows every response without any of the machinery.

const requestTimeout = 20 * time.Second

// kinds of requests: what the fake session decides.
const (
	kForward int16 = iota
	kAnswer
	kRunAnswer
	kRunForward
	kRunRetry
	kWholeAnswer
	kWholeRun
	kWholeForward
	kStream
	kExclusive
	kNoResponse // and all after it have no response
	kDrop
	kRunDrop
	kWholeDrop
	kClose
	kRunClose
	kWholeClose
	kPanic
	kRunPanic
	kWholePanic
	kStreamPanic
	kStreamError
	kBadForward
	kBadRetry
	kinds
)

func answered(kind int16) bool { return kind < kNoResponse }

func request(kind int16, corr int32, responseLen int, payload ...byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(12+len(payload)))
	f = binary.BigEndian.AppendUint16(f, uint16(kind))
	f = binary.BigEndian.AppendUint16(f, 0)
	f = binary.BigEndian.AppendUint32(f, uint32(corr))
	f = binary.BigEndian.AppendUint32(f, uint32(responseLen))
	return append(f, payload...)
}

func patternByte(corr int32, i int) byte { return byte(corr*31 + int32(i)*7 + int32(i>>8)) }

// response is what the fake broker answers.
func response(corr int32, n int) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(4+n))
	f = binary.BigEndian.AppendUint32(f, uint32(corr))
	for i := range n {
		f = append(f, patternByte(corr, i))
	}
	return f
}

// flip marks the body of a response as rewritten.
func flip(frame []byte) []byte {
	out := slices.Clone(frame)
	for i := 8; i < len(out); i++ {
		out[i] ^= 0x55
	}
	return out
}

// wanted is what the client must get for a request. Nothing here knows how the proxy works.
func wanted(kind int16, corr int32, n int) []byte {
	switch kind {
	case kForward, kRunForward, kRunRetry, kExclusive:
		return response(corr, n)
	case kAnswer, kRunAnswer, kWholeAnswer, kWholeRun, kStream:
		return flip(response(corr, n))
	case kWholeForward:
		return flip(response(corr+1_000_000, n))
	}
	return nil
}

// fakeSessions decide by the kind of a request.
type fakeSessions struct {
	opened, closed atomic.Int64
	slow           atomic.Pointer[func()] // called by each Run
}

func (f *fakeSessions) slowly(wait func()) { f.slow.Store(&wait) }

func (f *fakeSessions) NewSession(c router.Client) router.Session {
	f.opened.Add(1)
	return &fakeSession{sessions: f, broker: c.Broker}
}

type fakeSession struct {
	sessions *fakeSessions
	broker   int32
	retried  map[int32]bool
	inside   atomic.Bool
}

// Proven implements router.Session.
func (s *fakeSession) Proven() bool { return true }

// Prove implements router.Session.
func (s *fakeSession) Prove() router.Decision { return router.Decision{Action: router.Drop} }

func (s *fakeSession) Closed() { s.sessions.closed.Add(1) }

// enter fails the test run (by a panic that the proxy counts) when two calls overlap.
func (s *fakeSession) enter() func() {
	if s.inside.Swap(true) {
		panic("two calls of one session at a time")
	}
	return func() { s.inside.Store(false) }
}

func (s *fakeSession) Request(frame []byte) router.Decision {
	defer s.enter()()
	kind := int16(binary.BigEndian.Uint16(frame[4:]))
	if len(frame) < 16 || binary.BigEndian.Uint32(frame[12:]) > 1<<30 {
		return router.Decision{Action: router.Close, Err: errors.New("garbage")}
	}
	corr := int32(binary.BigEndian.Uint32(frame[8:]))
	n := int(binary.BigEndian.Uint32(frame[12:]))
	forward := router.Decision{Action: router.Forward, Frame: frame}
	answer := func(context.Context) router.Decision {
		if n > 4<<20 {
			return router.Decision{Action: router.Close, Err: errors.New("too much to answer")}
		}
		return router.Decision{Action: router.Answer, Frame: flip(response(corr, n))}
	}
	run := func(f func(context.Context) router.Decision) router.Decision {
		return router.Decision{Action: router.Run, Run: func(ctx context.Context) router.Decision {
			if slow := s.sessions.slow.Load(); slow != nil {
				(*slow)()
			}
			return f(ctx)
		}}
	}
	whole := func(f func(frame []byte) router.Decision) router.Decision {
		forward.Whole = func(got []byte) router.Decision {
			defer s.enter()()
			if n > 4<<20 || !bytes.Equal(got, response(corr, n)) {
				return router.Decision{Action: router.Close, Err: fmt.Errorf("whole response to %d is not whole", corr)}
			}
			return f(got)
		}
		return forward
	}
	flipInPlace := func(got []byte) router.Decision {
		copy(got, flip(got))
		return router.Decision{Action: router.Answer, Frame: got}
	}
	switch kind {
	case kForward:
		return forward
	case kAnswer:
		return answer(nil)
	case kRunAnswer:
		return run(answer)
	case kRunForward:
		return run(func(context.Context) router.Decision { return forward })
	case kRunRetry:
		if s.retried[corr] {
			delete(s.retried, corr)
			return forward
		}
		return run(func(context.Context) router.Decision {
			if s.retried == nil { // no other call can run: the request is on hold
				s.retried = map[int32]bool{}
			}
			s.retried[corr] = true
			return router.Decision{Action: router.Retry}
		})
	case kWholeAnswer:
		return whole(flipInPlace)
	case kWholeRun:
		return whole(func(got []byte) router.Decision {
			return run(func(context.Context) router.Decision { return flipInPlace(got) })
		})
	case kWholeForward:
		return whole(func([]byte) router.Decision {
			next := router.Decision{Action: router.Forward, Frame: request(kForward, corr+1_000_000, n)}
			next.Stream = &flipStream{}
			return next
		})
	case kStream:
		forward.Stream = &flipStream{}
		return forward
	case kExclusive:
		forward.Exclusive = true
		return forward
	case kNoResponse:
		forward.NoResponse = true
		return forward
	case kDrop:
		return router.Decision{Action: router.Drop}
	case kRunDrop:
		return run(func(context.Context) router.Decision { return router.Decision{Action: router.Drop} })
	case kWholeDrop:
		return whole(func([]byte) router.Decision { return router.Decision{Action: router.Drop} })
	case kRunClose:
		return run(func(context.Context) router.Decision {
			return router.Decision{Action: router.Close, Err: errors.New("run")}
		})
	case kWholeClose:
		return whole(func([]byte) router.Decision { return router.Decision{Action: router.Close, Err: errors.New("whole")} })
	case kPanic:
		panic("request")
	case kRunPanic:
		return run(func(context.Context) router.Decision { panic("run") })
	case kWholePanic:
		return whole(func([]byte) router.Decision { panic("whole") })
	case kStreamPanic:
		forward.Stream = badStream{panics: true}
		return forward
	case kStreamError:
		forward.Stream = badStream{}
		return forward
	case kBadForward:
		return router.Decision{Action: router.Forward}
	case kBadRetry:
		return router.Decision{Action: router.Retry}
	}
	return router.Decision{Action: router.Close, Err: errors.New("unknown kind")}
}

// flipStream holds back up to three bytes, like a stream that waits for the rest of a field.
type flipStream struct {
	pos  int
	left int
	held []byte
	size [4]byte
}

func (f *flipStream) Next(p []byte) (head, tail []byte, err error) {
	for i := range p {
		if f.pos < 4 {
			if f.size[f.pos] = p[i]; f.pos == 3 {
				f.left = int(binary.BigEndian.Uint32(f.size[:])) + 4
			}
		}
		if f.pos >= 8 {
			p[i] ^= 0x55
		}
		f.pos++
	}
	head, f.held = f.held, nil
	tail = p
	if f.pos%3 == 0 && (f.pos < 4 || f.pos < f.left) { // not at the end
		keep := min(3, len(p))
		f.held = slices.Clone(p[len(p)-keep:])
		tail = p[:len(p)-keep]
	}
	return head, tail, nil
}

type badStream struct{ panics bool }

func (b badStream) Next([]byte) (head, tail []byte, err error) {
	if b.panics {
		panic("stream")
	}
	return nil, nil, errors.New("stream")
}

// fakeBroker answers requests in order. hook, if set, may take over a connection.
type fakeBroker struct {
	ln    net.Listener
	hook  func(conn net.Conn) // instead of answering
	got   atomic.Int64        // requests without response
	conns sync.WaitGroup
}

func newBroker(t testing.TB, config *tls.Config, hook func(net.Conn)) *fakeBroker {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	b := &fakeBroker{ln: ln, hook: hook}
	b.conns.Add(1)
	go func() {
		defer b.conns.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.conns.Add(1)
			go func() {
				defer b.conns.Done()
				defer conn.Close()
				if c, ok := conn.(*tls.Conn); ok && c.Handshake() != nil {
					return
				}
				if b.hook != nil {
					b.hook(conn)
				} else {
					b.answer(conn)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		b.conns.Wait()
	})
	return b
}

func (b *fakeBroker) addr() string { return b.ln.Addr().String() }

func (b *fakeBroker) answer(conn net.Conn) {
	for {
		f, err := readFrame(conn)
		if err != nil {
			return
		}
		kind, corr, n := int16(binary.BigEndian.Uint16(f[4:])), int32(binary.BigEndian.Uint32(f[8:])), int(binary.BigEndian.Uint32(f[12:]))
		if kind == kNoResponse {
			b.got.Add(1)
			continue
		}
		if _, err := conn.Write(response(corr, n)); err != nil {
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	f := make([]byte, 4)
	if _, err := io.ReadFull(r, f); err != nil {
		return nil, err
	}
	f = append(f, make([]byte, binary.BigEndian.Uint32(f))...)
	_, err := io.ReadFull(r, f[4:])
	return f, err
}

// newProxy starts a proxy in front of one broker. At the end of the test it stops the proxy and
// checks that nothing is left.
func newProxy(t testing.TB, broker string, change ...func(*Config)) (*Proxy, *fakeSessions) {
	sessions := &fakeSessions{}
	config := Config{
		Listeners: []Listener{{Listen: "127.0.0.1:0"}}, Sessions: sessions, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&config)
	}
	p, err := New(config)
	require.NoError(t, err)
	require.NoError(t, p.Start())
	p.SetBootstrap([]string{broker})
	t.Cleanup(func() {
		require.NoError(t, p.Close())
		require.Zero(t, p.Stats().Connections.Load())
		require.Equal(t, sessions.opened.Load(), sessions.closed.Load(), "every session is closed once")
	})
	return p, sessions
}

func dialProxy(t testing.TB, p *Proxy, config *tls.Config) net.Conn {
	var conn net.Conn
	conn, err := net.Dial("tcp", p.Addr().String())
	require.NoError(t, err)
	if config != nil {
		conn = tls.Client(conn, config)
	}
	require.NoError(t, conn.SetDeadline(time.Now().Add(requestTimeout)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// askProxy is dialProxy for a connection that has sent a request, and so has a connection to the
// broker.
func askProxy(t testing.TB, p *Proxy) net.Conn {
	conn := dialProxy(t, p, nil)
	_, err := conn.Write(request(kForward, 1, 1))
	require.NoError(t, err)
	return conn
}

// awaited waits for a channel to be closed, but not for ever: a failed test must end.
func awaited(ch <-chan struct{}) {
	select {
	case <-ch:
	case <-time.After(2 * requestTimeout):
	}
}

// eventually awaits a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(requestTimeout); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	// gnet's worker pool is global and keeps idle workers for 10 s.
	if err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
	); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
