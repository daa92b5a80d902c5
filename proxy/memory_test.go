package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The promise: a client or broker that does not read costs the proxy less than this, whatever the
// client asked for.
const stallBudget = 32 << 20

// usage is the memory that the whole process uses: heap and stacks, and resident memory.
type usage struct{ heap, rss int64 }

func memory(t testing.TB) (u usage) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap = int64(m.HeapInuse + m.StackInuse)
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	var size, resident int64
	_, err = fmt.Sscan(string(statm), &size, &resident)
	require.NoError(t, err)
	u.rss = resident * int64(os.Getpagesize())
	return u
}

// meter compares memory use with that at its start.
type meter struct{ before, most usage }

func newMeter(t testing.TB) *meter {
	debug.FreeOSMemory()
	u := memory(t)
	return &meter{before: u, most: u}
}

func (m *meter) sample(t testing.TB) {
	u := memory(t)
	m.most.heap, m.most.rss = max(m.most.heap, u.heap), max(m.most.rss, u.rss)
}

func (m *meter) check(t testing.TB) {
	t.Helper()
	m.sample(t)
	heap, rss := m.most.heap-m.before.heap, m.most.rss-m.before.rss
	t.Logf("heap +%.1f MiB, resident +%.1f MiB", float64(heap)/(1<<20), float64(rss)/(1<<20))
	require.Less(t, heap, int64(stallBudget), "heap")
	if !underRace {
		require.Less(t, rss, int64(stallBudget), "resident memory")
	}
}

// settled waits until a side is paused and a counter has then stopped for a while.
func settled(t testing.TB, m *meter, p *Proxy, counter func() int64) {
	t.Helper()
	last, since := counter(), time.Now()
	eventually(t, "traffic stalls", func() bool {
		m.sample(t)
		if now := counter(); now != last || p.Stats().Pauses.Load() == 0 {
			last, since = now, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
}

const bigResponse = 300 << 20

// pattern is a piece of a big frame, made of 8-byte counters that show its position.
func writePattern(w io.Writer, n int) error {
	buf := make([]byte, 0, 64<<10)
	for at := 0; at < n; {
		buf = buf[:0]
		for len(buf) < cap(buf) && at < n {
			buf = binary.BigEndian.AppendUint64(buf, uint64(at))
			at += 8
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func checkPattern(r io.Reader, n int, each func()) error {
	buf := make([]byte, 64<<10)
	for at := 0; at < n; {
		b := buf[:min(len(buf), n-at)]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[8:] {
			if got := binary.BigEndian.Uint64(b); got != uint64(at) {
				return fmt.Errorf("byte %d of the frame is byte %d", at, got)
			}
			at += 8
		}
		if at%(16<<20) == 0 {
			each()
		}
	}
	return nil
}

// A client asks for 300 MiB in one response and does not read.
func TestStalledReaderOfOneBigResponse(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		p, _ := w.proxy(t, func(conn net.Conn) {
			if _, err := readFrame(conn); err != nil {
				return
			}
			head := binary.BigEndian.AppendUint32(nil, 4+bigResponse)
			if _, err := conn.Write(append(head, 0, 0, 0, 1)); err != nil {
				return
			}
			if writePattern(conn, bigResponse) == nil {
				_, _ = readFrame(conn) // until the proxy closes
			}
		})
		m := newMeter(t)
		conn := dialProxy(t, p, w.client)
		_, err := conn.Write(request(kForward, 1, 0))
		require.NoError(t, err)
		settled(t, m, p, p.Stats().UpstreamReceived.Load)
		require.Less(t, p.Stats().UpstreamReceived.Load(), int64(bigResponse)/2, "the broker is held back")
		m.check(t)

		require.NoError(t, conn.SetDeadline(time.Now().Add(4*requestTimeout)))
		head := make([]byte, 8)
		_, err = io.ReadFull(conn, head)
		require.NoError(t, err)
		require.NoError(t, checkPattern(conn, bigResponse, func() { m.sample(t) }))
		m.check(t)
	})
}

// A client pipelines requests without end and reads no answer.
func TestStalledReaderOfManyResponses(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		const count, size = 40_000, 8000
		body := bytes.Repeat([]byte{7}, size)
		p, _ := w.proxy(t, func(conn net.Conn) {
			for {
				f, err := readFrame(conn)
				if err != nil {
					return
				}
				head := binary.BigEndian.AppendUint32(make([]byte, 0, 8+size), 4+size)
				if _, err := conn.Write(append(append(head, f[8:12]...), body...)); err != nil {
					return
				}
			}
		})
		m := newMeter(t)
		conn := dialProxy(t, p, w.client)
		require.NoError(t, conn.SetDeadline(time.Now().Add(4*requestTimeout)))
		wrote := make(chan error, 1)
		go func() {
			buf := make([]byte, 0, 64<<10)
			for i := range int32(count) {
				buf = append(buf, request(kForward, i, size, make([]byte, 1000)...)...)
				if len(buf) > 60<<10 || i == count-1 {
					if _, err := conn.Write(buf); err != nil {
						wrote <- err
						return
					}
					buf = buf[:0]
				}
			}
			wrote <- nil
		}()
		settled(t, m, p, p.Stats().UpstreamReceived.Load)
		require.Less(t, p.Stats().UpstreamReceived.Load(), int64(count*size/2), "the broker is held back")
		m.check(t)
		got := make([]byte, 8+size)
		for i := range int32(count) {
			_, err := io.ReadFull(conn, got)
			require.NoError(t, err)
			require.EqualValues(t, i, binary.BigEndian.Uint32(got[4:]))
		}
		require.NoError(t, <-wrote)
		m.check(t)
	})
}

// A client sends 300 MiB to a broker that does not read.
func TestStalledBroker(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		const count, size = 300, 1 << 20
		release := make(chan struct{})
		received := make(chan error, 1)
		p, _ := w.proxy(t, func(conn net.Conn) {
			awaited(release)
			head := make([]byte, 16)
			for range count {
				if _, err := io.ReadFull(conn, head); err != nil {
					received <- err
					return
				}
				if err := checkPattern(conn, size, func() {}); err != nil {
					received <- err
					return
				}
			}
			received <- nil
			_, _ = readFrame(conn)
		})
		m := newMeter(t)
		conn := dialProxy(t, p, w.client)
		require.NoError(t, conn.SetDeadline(time.Now().Add(4*requestTimeout)))
		wrote := make(chan error, 1)
		go func() {
			for range count {
				head := request(kNoResponse, 1, 0)
				binary.BigEndian.PutUint32(head, 12+size)
				if _, err := conn.Write(head); err != nil {
					wrote <- err
					return
				}
				if err := writePattern(conn, size); err != nil {
					wrote <- err
					return
				}
			}
			wrote <- nil
		}()
		settled(t, m, p, p.Stats().ClientReceived.Load)
		require.Less(t, p.Stats().ClientReceived.Load(), int64(count*size/2), "the client is held back")
		m.check(t)
		close(release)
		require.NoError(t, <-wrote)
		require.NoError(t, <-received)
		m.check(t)
	})
}
