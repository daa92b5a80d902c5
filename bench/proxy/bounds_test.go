package proxy_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"klink/bench"
	benchproxy "klink/bench/proxy"
	"klink/bench/wire"
	"klink/protocol/batch"
	"klink/proxy"
	"klink/router"
)

// TestBounds is `make bench-check`: the ratios that matter, each the median of interleaved rounds,
// against bench/proxy/bounds.json. It measures, so it runs only with KLINK_BENCH_CHECK=1. Ratios of
// CPU time within a round hardly depend on the machine or on what else runs.
func TestBounds(t *testing.T) {
	if os.Getenv("KLINK_BENCH_CHECK") != "1" {
		t.Skip("a measurement: make bench-check")
	}
	text, err := os.ReadFile("bounds.json")
	require.NoError(t, err)
	var bounds map[string]float64
	require.NoError(t, json.Unmarshal(text, &bounds))
	measured := map[string]float64{}
	for name, pair := range ratios(t) {
		var values []float64
		for round := range rounds {
			// Each is first in half of the rounds.
			var a, b float64
			if round%2 == 0 {
				a, b = pair.subject(), pair.base()
			} else {
				b, a = pair.base(), pair.subject()
			}
			values = append(values, a/b)
		}
		slices.Sort(values)
		measured[name] = values[len(values)/2]
		bound, ok := bounds[name]
		if !ok {
			t.Errorf("%s: %.3f (%.3f to %.3f); bounds.json has no bound", name, measured[name], values[0], values[len(values)-1])
			continue
		}
		t.Logf("%s: %.3f (%.3f to %.3f), at most %.3f", name, measured[name], values[0], values[len(values)-1], bound)
		if measured[name] > bound {
			t.Errorf("%s: %.3f is more than %.3f", name, measured[name], bound)
		}
	}
	for name := range bounds {
		if _, ok := measured[name]; !ok {
			t.Errorf("%s: bounds.json has a bound, but nothing is measured", name)
		}
	}
}

const rounds = 7

// compared are two things to measure, in any unit.
type compared struct{ subject, base func() float64 }

func ratios(t *testing.T) map[string]compared {
	out := map[string]compared{}
	// Client and broker run in this process, and the subject between them in another. The CPU time
	// of both processes is that of a request; that of the other process alone is the proxy's.
	direct := startEcho(t)
	relay, proxy := startRole(t, "relay", direct), startRole(t, "proxy", direct)
	for _, c := range []struct {
		name              string
		request, response int
		count             int
	}{
		{"200 B", 200, 200, 8000},
		{"fetch of 64 KiB", 200, 64 << 10, 4000},
		{"fetch of 1 MiB", 200, 1 << 20, 400},
		{"produce of 1 MiB", 1 << 20, 200, 400},
	} {
		load := func(addr string, child *bench.Process, whole bool) func() float64 {
			return func() float64 {
				own, others := exchange(t, addr, child, c.request, c.response, c.count)
				if whole {
					others += own
				}
				return others.Seconds()
			}
		}
		out["CPU, "+c.name+", everybody, proxied / direct"] = compared{subject: load(proxy.addr, proxy.Process, true), base: load(direct, nil, true)}
		out["CPU, "+c.name+", proxy / relay"] = compared{subject: load(proxy.addr, proxy.Process, false), base: load(relay.addr, relay.Process, false)}
	}
	// What stamping adds to the least that can be done with a batch.
	for name, size := range map[string]int{"128 KiB": 128 << 10} {
		src, dst := wire.RecordBatch(size, 1), make([]byte, size)
		n := 1 << 30 / size / 4
		out["time, batch of "+name+", copied and stamped / copied twice"] = compared{
			subject: timed(func() {
				for i := range n {
					copy(dst, src)
					if err := batch.Stamp(dst, int64(i), 7); err != nil {
						t.Fatal(err)
					}
				}
			}),
			base: timed(func() {
				for range n {
					copy(dst, src)
					copy(dst, src)
				}
			}),
		}
	}
	// What looking at each batch's header adds to passing an answer on.
	var records []byte
	for range 64 {
		records = append(records, wire.RecordBatch(16<<10, 1)...)
	}
	dst := make([]byte, len(records))
	out["time, 1 MiB of batches of 16 KiB, walked / copied"] = compared{
		subject: timed(func() {
			for range 200 {
				w := batch.Walk(records)
				for w.Next() {
					_ = w.Batch()
				}
				if w.Err() != nil {
					t.Fatal(w.Err())
				}
			}
		}),
		base: timed(func() {
			for range 200 {
				copy(dst, records)
			}
		}),
	}
	return out
}

func timed(f func()) func() float64 {
	return func() float64 {
		began := time.Now()
		f()
		return time.Since(began).Seconds()
	}
}

// exchange asks and waits for the answer, again and again, and returns the CPU time of this process
// and of the child.
func exchange(t *testing.T, addr string, child *bench.Process, request, response, count int) (own, others time.Duration) {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	out, in := make([]byte, 4+request), make([]byte, 4+response)
	binary.BigEndian.PutUint32(out, uint32(request))
	binary.BigEndian.PutUint32(out[12:], uint32(response))
	once := func() {
		if _, err := conn.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, in); err != nil {
			t.Fatal(err)
		}
	}
	for range count / 10 {
		once()
	}
	ownBefore, othersBefore := cpuTime(t, child)
	for range count {
		once()
	}
	own, others = cpuTime(t, child)
	return own - ownBefore, others - othersBefore
}

func cpuTime(t *testing.T, child *bench.Process) (own, others time.Duration) {
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	if child != nil {
		usage, err := child.Usage()
		require.NoError(t, err)
		others = usage.CPU
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), others
}

// startEcho is a broker that answers each frame with as many bytes as the frame says after its
// header.
func startEcho(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	return ln.Addr().String()
}

func echo(conn net.Conn) {
	defer conn.Close()
	in, out := make([]byte, 2<<20), make([]byte, 2<<20)
	for {
		if _, err := io.ReadFull(conn, in[:4]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(in))
		if _, err := io.ReadFull(conn, in[4:4+size]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(in[12:]))
		binary.BigEndian.PutUint32(out, uint32(n))
		if _, err := conn.Write(out[:4+n]); err != nil {
			return
		}
	}
}

// role is a child process that is this test binary in another role.
type role struct {
	*bench.Process
	addr string
}

func startRole(t *testing.T, name, to string) role {
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := role{addr: spare.Addr().String()}
	require.NoError(t, spare.Close())
	self, err := os.Executable()
	require.NoError(t, err)
	r.Process, err = bench.StartProcess(t.TempDir(), name, []string{"BENCH_ROLE=" + name, "BENCH_LISTEN=" + r.addr, "BENCH_TO=" + to}, self)
	require.NoError(t, err)
	t.Cleanup(r.Stop)
	require.NoError(t, r.AwaitLog("ready", 10*time.Second))
	return r
}

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listen, to := os.Getenv("BENCH_LISTEN"), os.Getenv("BENCH_TO")
	var err error
	switch os.Getenv("BENCH_ROLE") {
	case "relay":
		err = benchproxy.Relay(ctx, listen, to, func() { fmt.Println("ready") })
	case "proxy":
		err = runProxy(ctx, listen, to)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// passes forwards everything, so that the test measures the proxy and not decisions about requests.
type passes struct{}

func (passes) NewSession(router.Client) router.Session { return passes{} }
func (passes) Proven() bool                            { return true }
func (passes) Prove() router.Decision                  { return router.Decision{Action: router.Drop} }
func (passes) Closed()                                 {}
func (passes) Request(frame []byte) router.Decision {
	return router.Decision{Action: router.Forward, Frame: frame}
}

func runProxy(ctx context.Context, listen, to string) error {
	p, err := proxy.New(proxy.Config{Listeners: []proxy.Listener{{Listen: listen}}, Sessions: passes{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	p.SetBootstrap([]string{to})
	fmt.Println("ready")
	<-ctx.Done()
	return p.Close()
}

// TestBoundsFile: the file is read, and every bound is a ratio that could be met.
func TestBoundsFile(t *testing.T) {
	text, err := os.ReadFile("bounds.json")
	require.NoError(t, err)
	var bounds map[string]float64
	require.NoError(t, json.Unmarshal(text, &bounds))
	require.NotEmpty(t, bounds)
	for name, bound := range bounds {
		require.Greater(t, bound, 0.0, name)
		require.Contains(t, name, " / ", "a bound is of a ratio")
		require.True(t, strings.HasPrefix(name, "CPU, ") || strings.HasPrefix(name, "time, "), name)
	}
}
