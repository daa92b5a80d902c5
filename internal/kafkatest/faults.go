package kafkatest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Faults is a TCP proxy in front of one address that can misbehave like a network.
//
// It is safe for concurrent use. It knows no protocol: it sends only bytes that it has received.
type Faults struct {
	target string
	ports  *portBlock

	mu     sync.Mutex
	ln     net.Listener // nil between Cut and Resume
	conns  map[*faultConn]struct{}
	open   [2]chan struct{} // by direction, closed while bytes may pass
	delay  time.Duration
	window int // the number of chunks in flight in a direction
	watch  func([]byte)
	all    int // connections so far
	closed bool
	wg     sync.WaitGroup
}

// direction is one of the two directions through the proxy.
type direction int

const (
	requests direction = iota // to the target
	answers                   // from the target
)

// NewFaults listens on a free port of 127.0.0.1 and forwards to target until the end of the test.
func NewFaults(t testing.TB, target string) *Faults {
	t.Helper()
	f, err := newFaults(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func newFaults(target string) (*Faults, error) {
	ports, err := reservePorts(1)
	if err != nil {
		return nil, err
	}
	f := &Faults{target: target, ports: ports, conns: map[*faultConn]struct{}{}, window: 64}
	for d := range f.open {
		f.open[d] = make(chan struct{})
		close(f.open[d])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.listen(); err != nil {
		ports.release()
		return nil, err
	}
	return f, nil
}

// Addr is the host:port to dial; it stays the same.
func (f *Faults) Addr() string { return fmt.Sprintf("127.0.0.1:%d", f.ports.base) }

// Cut resets all connections and refuses new ones until [Faults.Resume].
func (f *Faults) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ln != nil {
		f.ln.Close()
		f.ln = nil
	}
	f.reset()
}

// Reset resets all connections, and still accepts new ones.
func (f *Faults) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reset()
}

func (f *Faults) reset() {
	for c := range f.conns {
		c.reset()
	}
}

// Stall lets no byte pass in either direction, and keeps connections open, like a network that
// drops packets, until [Faults.Resume]. The proxy still accepts up to about 4 MiB in each
// direction.
func (f *Faults) Stall() { f.stall(requests, answers) }

// StallRequests stalls only what clients send: the target sees none of their requests until
// [Faults.Resume], then all of them.
func (f *Faults) StallRequests() { f.stall(requests) }

// StallAnswers stalls only what the target sends: the target carries out the clients' requests, but
// they get no answers.
func (f *Faults) StallAnswers() { f.stall(answers) }

func (f *Faults) stall(ds ...direction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range ds {
		select {
		case <-f.open[d]:
			f.open[d] = make(chan struct{})
		default:
		}
	}
}

// Resume ends [Faults.Cut] and every stall, and delivers the bytes that a stall has held. It panics
// if the port was lost, which its reservation prevents.
func (f *Faults) Resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, open := range f.open {
		select {
		case <-open:
		default:
			close(open)
		}
	}
	if f.ln == nil && !f.closed {
		if err := f.listen(); err != nil {
			panic(err)
		}
	}
}

// Delay delays bytes that arrive from now on by d in each direction. Bandwidth stays the same until
// 4 MiB are in flight in a direction, or as many bytes as [Faults.Window] sets.
func (f *Faults) Delay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Window sets how many bytes may be in flight in each direction of the connections opened from now
// on; the default is 4 MiB. Set it to bandwidth times delay of the simulated network, or the delay
// would also cost bandwidth.
func (f *Faults) Window(size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = max(1, size/chunkSize)
}

// Conns is the number of open connections.
func (f *Faults) Conns() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// Accepted is the number of connections so far, open or not.
func (f *Faults) Accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

// Close resets all connections and frees the port.
func (f *Faults) Close() {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.closed = true
	if f.ln != nil {
		f.ln.Close()
		f.ln = nil
	}
	f.reset()
	f.mu.Unlock()
	f.wg.Wait()
	f.ports.release()
}

func (f *Faults) listen() error {
	ln, err := net.Listen("tcp", f.Addr())
	if err != nil {
		return fmt.Errorf("kafkatest: fault proxy before %s: %w", f.target, err)
	}
	f.ln = ln
	f.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // cut or closed
			}
			f.wg.Go(func() { f.serve(ln, conn) })
		}
	})
	return nil
}

func (f *Faults) serve(ln net.Listener, client net.Conn) {
	target, err := net.DialTimeout("tcp", f.target, 10*time.Second)
	if err != nil {
		_ = client.(*net.TCPConn).SetLinger(0) // a reset, as near to a refusal as can be
		client.Close()
		return
	}
	c := &faultConn{client: client.(*net.TCPConn), target: target.(*net.TCPConn), gone: make(chan struct{})}
	f.mu.Lock()
	if f.ln != ln { // Cut came while it was dialling
		f.mu.Unlock()
		c.reset()
		return
	}
	f.conns[c] = struct{}{}
	f.all++
	f.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { f.pump(c, c.client, c.target, requests) })
	wg.Go(func() { f.pump(c, c.target, c.client, answers) })
	wg.Wait()
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	c.end(func(conn *net.TCPConn) { conn.Close() })
}

// faultConn is a pair of connections that end together.
type faultConn struct {
	client, target *net.TCPConn
	once           sync.Once
	gone           chan struct{}
	stranded       chan struct{} // closed by Unstrand; nil = no Strand; guarded by Faults.mu
}

// reset ends both at once. Bytes in flight are lost.
func (c *faultConn) reset() {
	c.end(func(conn *net.TCPConn) {
		_ = conn.SetLinger(0) // so that close sends a reset
		conn.Close()
	})
}

func (c *faultConn) end(how func(*net.TCPConn)) {
	c.once.Do(func() {
		close(c.gone)
		how(c.client)
		how(c.target)
	})
}

// chunkSize is the number of bytes read at once.
const chunkSize = 64 << 10

type chunk struct {
	data []byte
	due  time.Time
}

// pump moves bytes in one direction through a queue, in which they wait for delay and stall. It
// also passes on the end of the stream.
func (f *Faults) pump(c *faultConn, from, to *net.TCPConn, way direction) {
	f.mu.Lock()
	queue := make(chan chunk, f.window)
	f.mu.Unlock()
	f.wg.Go(func() {
		defer close(queue)
		var buf []byte // the unused rest of an allocation
		for {
			if len(buf) < chunkSize/4 {
				buf = make([]byte, chunkSize)
			}
			n, err := from.Read(buf)
			if n > 0 {
				f.mu.Lock()
				due, watch := time.Now().Add(f.delay), f.watch
				f.mu.Unlock()
				if watch != nil && way == requests {
					watch(buf[:n])
				}
				select {
				case queue <- chunk{buf[:n:n], due}:
					buf = buf[n:]
				case <-c.gone:
					return
				}
			}
			if errors.Is(err, io.EOF) || err != nil && way == requests && f.strandedOf(c) != nil {
				return
			}
			if err != nil {
				c.reset()
				return
			}
		}
	})
	for ch := range queue {
		if !f.pass(c, way, ch.due) {
			return
		}
		if _, err := to.Write(ch.data); err != nil {
			if way == answers && f.strandedOf(c) != nil {
				continue // to a client that is gone
			}
			c.reset()
			return
		}
	}
	if f.pass(c, way, time.Time{}) {
		_ = to.CloseWrite()
	}
}

// fineWait: Go's timers wake an idle process only at whole milliseconds. A wait shorter than
// fineWait sleeps in the kernel instead, so that a delay of half a millisecond does not become a
// whole one.
const fineWait = 3 * time.Millisecond

// pass waits until bytes that are due may leave. It returns false if the connection has ended.
func (f *Faults) pass(c *faultConn, way direction, due time.Time) bool {
	wait := time.Until(due)
	if wait > 0 && wait < fineWait {
		ts := unix.NsecToTimespec(wait.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // a signal ends it early, by less than a millisecond
	} else if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.gone:
			return false
		}
	}
	f.mu.Lock()
	open := f.open[way]
	f.mu.Unlock()
	select {
	case <-open:
	case <-c.gone:
		return false
	}
	stranded := f.strandedOf(c)
	if stranded == nil || way == answers {
		return true
	}
	select {
	case <-stranded:
		return true
	case <-c.gone:
		return false
	}
}
