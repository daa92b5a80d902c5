package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"klink/router"

	"github.com/panjf2000/gnet/v2"
	"github.com/stretchr/testify/require"
)

// tape is a pair without sockets: the test feeds the bytes of client and broker in pieces of any
// size, and reads what they would get from the outboxes. So every interleaving is reproducible.
type tape struct {
	*pair
	sessions *fakeSessions
	tasks    chan gnet.Runnable // what would run on the event loop
	// fromBroker holds answers of the broker that the pair has not received yet.
	fromBroker []byte
	asked      []byte // received by the broker, before it is cut into frames
	answers    []byte // received by the client
}

// Execute and the rest make a tape its own event loop.
func (tp *tape) Execute(_ context.Context, r gnet.Runnable) error { tp.tasks <- r; return nil }
func (tp *tape) Close(gnet.Conn) error                            { return nil }
func (tp *tape) Register(context.Context, net.Addr) (<-chan gnet.RegisteredResult, error) {
	panic("not used")
}

func (tp *tape) Enroll(context.Context, net.Conn) (<-chan gnet.RegisteredResult, error) {
	panic("not used")
}
func (tp *tape) Schedule(context.Context, gnet.Runnable, time.Duration) error { panic("not used") }

func newTape(t testing.TB, change ...func(*Config)) *tape {
	sessions := &fakeSessions{}
	config := Config{Listeners: []Listener{{Listen: "127.0.0.1:0"}}, Sessions: sessions, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&config)
	}
	p, err := New(config)
	require.NoError(t, err)
	tp := &tape{sessions: sessions, tasks: make(chan gnet.Runnable, 1000)}
	x := &pair{proxy: p, entrance: p.entrances[0], target: &target{id: bootstrapID}, state: open, session: sessions.NewSession(router.Client{})}
	x.loop = &loop{proxy: p, gnet: tp, scratch: make([]byte, scratchSize)}
	// Sockets that never take anything: all that is sent stays in the outboxes.
	x.client = side{pair: x, fd: -1, waiting: true}
	x.up = side{pair: x, fd: -1, waiting: true, upstream: true}
	x.loop.wheel.add(x, 100)
	p.live.Add(1)
	p.stats.Connections.Add(1)
	tp.pair = x
	t.Cleanup(func() {
		tp.kill(ReasonDrain, nil)
		p.cancel()
		p.runs.Wait()
		require.Equal(t, sessions.opened.Load(), sessions.closed.Load())
		require.Zero(t, p.stats.Connections.Load())
	})
	return tp
}

func taken(o *outbox, dst []byte) []byte {
	for _, s := range o.segments {
		dst = append(dst, s.buf.b[s.off:]...)
		s.buf.free()
	}
	o.drop()
	return dst
}

// collect takes what was sent to both sides, and lets the broker answer.
func (tp *tape) collect() {
	tp.answers = taken(&tp.client.out, tp.answers)
	tp.asked = taken(&tp.up.out, tp.asked)
	for len(tp.asked) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(tp.asked))
		if len(tp.asked) < n {
			break
		}
		f := tp.asked[:n]
		if int16(binary.BigEndian.Uint16(f[4:])) != kNoResponse {
			tp.fromBroker = append(tp.fromBroker, response(int32(binary.BigEndian.Uint32(f[8:])), int(binary.BigEndian.Uint32(f[12:])))...)
		}
		tp.asked = tp.asked[n:]
	}
}

// feed passes bytes to one side, in a buffer that is overwritten afterwards like the event loop's.
func (tp *tape) feed(s *side, p []byte) {
	b := bytes.Clone(p)
	func() {
		defer tp.recoverPanic()
		s.received(b)
		tp.advance()
	}()
	for i := range b {
		b[i] = 0xee
	}
}

// task runs one task of the event loop; wait says to wait for one.
func (tp *tape) task(wait bool) bool {
	if wait {
		_ = (<-tp.tasks).Run(context.Background())
		return true
	}
	select {
	case r := <-tp.tasks:
		_ = r.Run(context.Background())
		return true
	default:
		return false
	}
}

// play feeds the wire bytes of requests and the broker's answers, in an order that choose
// determines, until everything is answered.
func (tp *tape) play(wire []byte, choose func(n int) int) {
	for tp.state == open {
		tp.collect()
		switch {
		case choose(3) == 0 && tp.task(false):
		case len(wire) > 0 && (len(tp.fromBroker) == 0 || choose(2) == 0) && tp.wantsBytes(&tp.client):
			n := 1 + choose(len(wire))
			tp.feed(&tp.client, wire[:n])
			wire = wire[n:]
		case len(tp.fromBroker) > 0 && tp.wantsBytes(&tp.up):
			n := 1 + choose(len(tp.fromBroker))
			p := tp.fromBroker[:n]
			tp.fromBroker = tp.fromBroker[n:]
			tp.feed(&tp.up, p)
		case tp.task(false):
		case tp.holds > 0:
			tp.task(true)
		case len(tp.fifo) == 0 && len(wire) == 0:
			return
		default:
			tp.advance()
		}
	}
	tp.collect()
}

func wireOf(requests []testRequest) (wire, want []byte) {
	for i, r := range requests {
		wire = append(wire, request(r.kind, int32(i), r.n, make([]byte, r.payload)...)...)
		want = append(want, wanted(r.kind, int32(i), r.n)...)
	}
	return wire, want
}

func TestEverySplitOfFrames(t *testing.T) {
	var requests []testRequest
	for kind := range kClose {
		requests = append(requests, testRequest{kind: kind, n: int(kind) % 5})
	}
	wire, want := wireOf(requests)
	for piece := 1; piece <= len(wire); piece++ {
		tp := newTape(t)
		tp.play(wire, func(n int) int { // equal pieces, in order of arrival
			if n <= 3 && n > 1 {
				return 1
			}
			return min(piece, n) - 1
		})
		require.Equal(t, want, tp.answers, "pieces of %d", piece)
		require.Equal(t, open, tp.state)
	}
}

func TestTapesOfRandomRequests(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		requests := randomRequests(rnd, 1+rnd.IntN(100), 1+rnd.IntN(3000), 1+rnd.IntN(3000))
		wire, want := wireOf(requests)
		tp := newTape(t, func(c *Config) { c.MaxInFlight = 1 + rnd.IntN(6) })
		limit := 1 + rnd.IntN(5000)
		tp.play(wire, func(n int) int { return rnd.IntN(min(n, limit)) })
		require.True(t, bytes.Equal(want, tp.answers), "seed %d", seed)
		require.Zero(t, tp.proxy.stats.Panics.Load(), "seed %d", seed)
		require.Zero(t, tp.holds)
		require.Empty(t, tp.sent)
	}
}

// FuzzConversation: whatever the order of events, the client gets what the dumb twin says.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"), []byte{1, 2, 3})
	f.Add([]byte{5, 200, 7, 3, 7, 3, 6, 0, 2, 90}, []byte{0, 255, 0, 0, 9, 30})
	f.Add(bytes.Repeat([]byte{7, 90, 0, 9}, 30), []byte{200, 3})
	f.Fuzz(func(t *testing.T, script, choices []byte) {
		if len(script) > 400 {
			return
		}
		var requests []testRequest
		for len(script) >= 2 {
			requests = append(requests, testRequest{kind: int16(script[0]) % (kRunDrop + 1), n: int(script[1]), payload: int(script[1]) / 2})
			script = script[2:]
		}
		wire, want := wireOf(requests)
		tp := newTape(t)
		i := 0
		tp.play(wire, func(n int) int {
			if len(choices) == 0 {
				return n - 1
			}
			i++
			return int(choices[i%len(choices)]) % n
		})
		require.Equal(t, want, tp.answers)
		require.Zero(t, tp.proxy.stats.Panics.Load())
	})
}

// FuzzHostileClient: whatever a client sends, at most its own connection ends.
func FuzzHostileClient(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0x80, 0, 0, 0})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Add(request(kWholeForward, 1, 4))
	f.Add(append(request(kPanic, 1, 4), request(kForward, 1, 4)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		tp := newTape(t, func(c *Config) { c.MaxRequestBytes = 1 << 16 })
		for len(p) > 0 && tp.state == open {
			n := min(len(p), 1000)
			tp.feed(&tp.client, p[:n])
			p = p[n:]
			require.LessOrEqual(t, tp.client.in.len(), 4+1<<16+inboxWater+1000)
		}
		for tp.task(false) {
		}
	})
}

// FuzzHostileBroker: whatever a broker sends, at most its own connection ends.
func FuzzHostileBroker(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 1}, uint8(0))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1}, uint8(7))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(5))
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 1}, uint8(6))
	f.Add(response(1, 20), uint8(8))
	f.Fuzz(func(t *testing.T, p []byte, kind uint8) {
		tp := newTape(t, func(c *Config) { c.MaxWholeResponse = 1 << 16 })
		for i := range int32(3) {
			tp.feed(&tp.client, request(int16(kind)%(kRunDrop+1), i, 4))
		}
		for len(p) > 0 && tp.state == open {
			n := min(len(p), 1+int(kind))
			tp.feed(&tp.up, p[:n])
			p = p[n:]
			for tp.task(false) {
			}
		}
	})
}
