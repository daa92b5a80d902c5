package kafkaclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// guard stands between a broker and a franz-go client. The client trusts the counts that it reads:
// a few bytes of a hostile broker would keep it busy for a minute, or make it allocate gigabytes.
//
// guard tracks the client's requests and holds each response back until it is complete. It hands a
// response on only if its size is within the limit of the API and its bytes have the shape that the
// client is about to decode. Anything else closes the connection.
type guard struct {
	net.Conn
	addr string
	held *atomic.Int64 // bytes held back by all connections that share it

	mu      sync.Mutex
	awaits  []awaited // in the order of the requests
	settled bool      // the client has negotiated the broker's versions
	failed  error     // why the connection was closed

	reading sync.Mutex // guards the fields below
	in      *bufio.Reader
	head    [8]byte // size and correlation id of the response, as read so far
	got     int     // bytes of head read so far
	body    []*chunk
	missing int // bytes of the body still to read
	counted int // this connection's part of held, in bytes
	ready   bool
	at      int // bytes handed on: of head first, then of the first chunk
}

var _ net.Conn = (*guard)(nil)

// chunk is a piece of a response.
type chunk struct {
	data []byte // the part of room that is filled
	room [chunkSize]byte
}

const chunkSize = 64<<10 - 64

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func newGuard(conn net.Conn, addr string, held *atomic.Int64) *guard {
	return &guard{Conn: conn, addr: addr, held: held, in: bufio.NewReaderSize(conn, 4<<10)}
}

// ResponseError reports a response that klink refuses. The connection is closed.
type ResponseError struct {
	Broker string // the broker's address
	API    string // of the request, with the version; "" = none
	Err    error
}

// Error implements error.
func (e *ResponseError) Error() string {
	if e.API == "" {
		return fmt.Sprintf("the connection to broker %s was closed: %v", e.Broker, e.Err)
	}
	return fmt.Sprintf("the connection to broker %s was closed because of its response to %s: %v", e.Broker, e.API, e.Err)
}

// Unwrap returns the reason.
func (e *ResponseError) Unwrap() error { return e.Err }

// fail closes the connection and keeps err as the reason.
func (g *guard) fail(api string, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = &ResponseError{Broker: g.addr, API: api, Err: err}
		_ = g.Conn.Close()
	}
	return g.failed
}

// Write sends p if it is exactly one request; anything else closes the connection.
func (g *guard) Write(p []byte) (int, error) {
	a, answered, err := readRequest(p)
	if err != nil {
		return 0, g.fail("", err)
	}
	g.mu.Lock()
	if err := g.failed; err != nil {
		g.mu.Unlock()
		return 0, err
	}
	if a.key != int16(kmsg.ApiVersions) {
		g.settled = true
	}
	if answered {
		g.awaits = append(g.awaits, a)
	}
	g.mu.Unlock()
	return g.Conn.Write(p)
}

// Close closes the connection and drops the bytes held back.
func (g *guard) Close() error {
	err := g.Conn.Close() // this ends a blocked Read
	g.reading.Lock()
	defer g.reading.Unlock()
	g.drop()
	return err
}

// Read hands on bytes of a complete, checked response.
func (g *guard) Read(p []byte) (int, error) {
	g.reading.Lock()
	defer g.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if !g.ready {
		if err := g.collect(); err != nil {
			return 0, err
		}
	}
	n := 0
	if g.at < len(g.head) {
		n = copy(p, g.head[g.at:])
		g.at += n
	}
	for n < len(p) && g.at >= len(g.head) && len(g.body) > 0 {
		c := g.body[0]
		k := copy(p[n:], c.data[g.at-len(g.head):])
		n, g.at = n+k, g.at+k
		if g.at-len(g.head) == len(c.data) {
			g.at = len(g.head)
			g.body = g.body[1:]
			g.release(c)
		}
	}
	if g.at >= len(g.head) && len(g.body) == 0 {
		g.drop()
	}
	return n, nil
}

// release returns a chunk to the pool.
func (g *guard) release(c *chunk) {
	if g.counted > 0 {
		g.counted -= chunkSize
		g.held.Add(-chunkSize)
	}
	c.data = nil
	chunks.Put(c)
}

// drop forgets the current response.
func (g *guard) drop() {
	for _, c := range g.body {
		g.release(c)
	}
	g.body, g.got, g.missing, g.at, g.ready = nil, 0, 0, 0, false
}

// collect waits for one whole response. After an error of the connection, such as a time-out, the
// caller can call it again, and it continues where it was.
func (g *guard) collect() error {
	began := g.got == len(g.head)
	for g.got < len(g.head) {
		n, err := g.in.Read(g.head[g.got:])
		g.got += n
		if g.got >= 4 {
			// Report an impossible size at once: a server that is not a Kafka broker may send no
			// more.
			if err := g.checkSize(); err != nil {
				return err
			}
		}
		if err != nil && g.got < len(g.head) {
			return g.ended(err)
		}
	}
	a, err := g.next()
	if err != nil {
		return err
	}
	if !began {
		g.missing = g.size() - 4
	}
	for g.missing > 0 {
		c, err := g.chunk(a)
		if err != nil {
			return g.fail(a.name(), err)
		}
		n, err := g.in.Read(c.room[len(c.data):min(chunkSize, len(c.data)+g.missing)])
		c.data = c.room[:len(c.data)+n]
		g.missing -= n
		if err != nil && g.missing > 0 {
			return g.ended(err)
		}
	}
	if err := g.check(a); err != nil {
		g.drop()
		return g.fail(a.name(), err)
	}
	g.mu.Lock()
	g.awaits = g.awaits[1:]
	g.mu.Unlock()
	g.ready = true
	return nil
}

func (g *guard) size() int { return int(int32(binary.BigEndian.Uint32(g.head[:]))) }

// ended returns the error of a connection that ended. In the middle of a response that is an
// unexpected EOF.
func (g *guard) ended(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		return g.failed
	}
	if errors.Is(err, io.EOF) && g.got > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next returns the request that the current response must answer.
func (g *guard) next() (*awaited, error) {
	g.mu.Lock()
	var a *awaited
	if len(g.awaits) > 0 {
		a = &awaited{}
		*a = g.awaits[0]
	}
	g.mu.Unlock()
	if a == nil {
		return nil, g.fail("", fmt.Errorf("%w: it sent a response to no request", protocol.ErrMalformed))
	}
	if got := int32(binary.BigEndian.Uint32(g.head[4:])); g.got == len(g.head) && got != a.correlation {
		return nil, g.fail(a.name(), fmt.Errorf("%w: it answers request %d, not %d", protocol.ErrMalformed, got, a.correlation))
	}
	return a, nil
}

// checkSize checks the size of the response before any of its body is kept.
func (g *guard) checkSize() error {
	g.mu.Lock()
	name, limit := "", 0
	if len(g.awaits) > 0 {
		name, limit = g.awaits[0].name(), g.awaits[0].limit
	}
	g.mu.Unlock()
	switch size := g.size(); {
	case name == "":
		_, err := g.next()
		return err
	case string(g.head[:4]) == "HTTP":
		return g.fail(name, fmt.Errorf("%w: it speaks HTTP: is this the port of a Kafka listener?", protocol.ErrMalformed))
	case g.head[0] == 21 && g.head[1] == 3: // a TLS alert
		return g.fail(name, fmt.Errorf("%w: it sent a TLS alert: the listener requires TLS, but security.protocol does not use it", protocol.ErrMalformed))
	case size < 4 || size-4 > limit:
		return g.fail(name, fmt.Errorf("%w: a size of %d bytes, at most %d are allowed", protocol.ErrMalformed, size, limit+4))
	}
	return nil
}

// chunk returns the chunk to fill next.
func (g *guard) chunk(a *awaited) (*chunk, error) {
	if n := len(g.body); n > 0 && len(g.body[n-1].data) < chunkSize {
		return g.body[n-1], nil
	}
	// Fetch does not count: the size that the client asked for bounds it.
	if a.key != int16(kmsg.Fetch) && a.key != int16(kmsg.ShareFetch) {
		if g.held.Add(chunkSize) > maxHeld {
			g.held.Add(-chunkSize)
			return nil, fmt.Errorf("the brokers of this cluster have sent more than %d bytes of unfinished responses", maxHeld)
		}
		g.counted += chunkSize
	}
	c := chunks.Get().(*chunk)
	c.data = c.room[:0]
	g.body = append(g.body, c)
	return c, nil
}

// check walks a response in the way that the client will decode it.
func (g *guard) check(a *awaited) error {
	parts := make([][]byte, len(g.body))
	for i, c := range g.body {
		parts[i] = c.data
	}
	if a.shape == nil {
		return nil
	}
	version, flexible := a.version, a.flexible
	if a.key == int16(kmsg.ApiVersions) && g.refusesVersion(parts) {
		version, flexible = 0, false
	}
	if err := a.shape.CheckParts(parts, version, flexible, protocol.Limits{Memory: a.memory()}); err != nil {
		return err
	}
	if a.key == int16(kmsg.Metadata) {
		return checkBrokers(parts[0], a)
	}
	return nil
}

// refusesVersion reports whether a response to ApiVersions is in v0 because the broker does not
// know the version that the client used (KIP-511). A client accepts v0 only until it has found the
// versions.
func (g *guard) refusesVersion(parts [][]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled || len(parts) == 0 || len(parts[0]) < 2 || int16(parts[0][1]) != kerr.UnsupportedVersion.Code {
		g.settled = true
		return false
	}
	r := kbin.Reader{Src: parts[0][2:]}
	keys, key := r.Int32(), r.Int16()
	g.settled = keys != 0 && (keys != 1 || key != int16(kmsg.ApiVersions)) // else it asks again
	return true
}

// checkBrokers bounds the number of brokers in metadata whose shape has been checked.
func checkBrokers(body []byte, a *awaited) error {
	r := kbin.Reader{Src: body}
	n := int32(0)
	if a.flexible {
		kmsg.SkipTags(&r)
		r.Int32() // throttle
		n = r.CompactArrayLen()
	} else {
		if a.version >= 3 {
			r.Int32()
		}
		n = r.ArrayLen()
	}
	if !r.Ok() || n > maxBrokers {
		return fmt.Errorf("%w: it names %d brokers, at most %d are allowed", protocol.ErrMalformed, n, maxBrokers)
	}
	return nil
}
