package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// maxResponse bounds a response in bytes. A broker may answer a Fetch with one batch of any
	// size, but takes no request above socket.request.max.bytes, 100 MiB by default.
	maxResponse = 128 << 20
	// maxControl bounds the responses to ApiVersions and to the requests of a login, in bytes.
	maxControl = 1 << 20
	// leastPace is the least rate, in bytes per second, at which a broker has to send a response,
	// after allowance times the overhead.
	leastPace = 64 << 10
	allowance = 10
	// idleCheck is how long a connection may be idle before the next Send checks whether the broker
	// has closed it.
	idleCheck = 100 * time.Millisecond
	// bounceSize is the size in bytes of the buffer that joins small parts where there is no
	// writev: that of a TLS record.
	bounceSize = 16 << 10
)

// Conn is one connection to a broker, for one goroutine.
//
// Call Send, and SendMore for requests that do not wait for the answers to those before. Then, for
// each of them in the same order, call Receive, and Read until the body is read. After any error
// the connection is of no use, but the caller still has to close it.
type Conn struct {
	d        *Dialer
	nc       net.Conn
	tcp      *net.TCPConn // nil = there is no writev, as with TLS
	addr     string
	versions versions
	expiry   time.Time // when to log in again; zero = never (KIP-368)

	correlation int32
	flight      int           // requests that are not answered yet
	wait        time.Duration // what was given to the last Send
	left        int           // bytes of the response that are not read yet
	size        int           // bytes of the response
	overhead    time.Duration
	used        time.Time // when the last response ended
	deadline    time.Time // the one that nc has
	complete    time.Time // when the whole response has to be there
	throttled   time.Time // no request before this time

	followed context.Context
	unfollow func() bool
	header   [8]byte
	bounce   []byte
}

func newConn(d *Dialer, nc net.Conn, addr string) *Conn {
	c := &Conn{d: d, nc: nc, addr: addr, overhead: d.overhead}
	c.tcp, _ = nc.(*net.TCPConn)
	return c
}

// Addr returns the address that the connection was made for.
func (c *Conn) Addr() string { return c.addr }

// Close closes the connection.
func (c *Conn) Close() {
	if c.unfollow != nil {
		c.unfollow()
	}
	_ = c.nc.Close()
}

// follow closes the connection when ctx ends. It costs nothing while the context stays the same.
func (c *Conn) follow(ctx context.Context) {
	if ctx == c.followed {
		return
	}
	if c.unfollow != nil {
		c.unfollow()
	}
	nc := c.nc
	c.followed, c.unfollow = ctx, context.AfterFunc(ctx, func() { _ = nc.Close() })
}

// Request is a *FetchRequest or a *ProduceRequest.
type Request interface{ sealed() *message }

func (m *message) sealed() *message { return m }

// Send writes a request. The broker may take the time wait for it, on top of the overhead of any
// request. If ctx ends before the next Send, the connection ends. If the login is about to expire,
// Send renews it first.
//
// An error is an *UnsentError if the broker cannot have got the request.
func (c *Conn) Send(ctx context.Context, r Request, wait time.Duration) error {
	c.follow(ctx)
	if err := c.ready(ctx); err != nil {
		return &UnsentError{err}
	}
	return c.send(ctx, r, wait)
}

// SendMore writes a request behind others that are not answered yet: a broker handles the requests
// of a connection one after the other. Unlike Send, it neither checks the connection nor renews the
// login.
func (c *Conn) SendMore(ctx context.Context, r Request, wait time.Duration) error {
	if c.flight == 0 || c.left > 0 {
		return errors.New("no request is in flight")
	}
	return c.send(ctx, r, wait)
}

func (c *Conn) send(ctx context.Context, r Request, wait time.Duration) error {
	m := r.sealed()
	c.correlation++
	if !m.seal(c.correlation) {
		return &UnsentError{fmt.Errorf("a request of %d bytes is too large for the protocol", m.size())}
	}
	defer m.done()
	c.wait = wait
	c.extend(wait + c.overhead)
	n, err := c.write(m)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if n == 0 {
			return &UnsentError{err}
		}
		return err
	}
	c.flight++
	return nil
}

// ready makes sure, as far as possible, that the broker will take a request.
func (c *Conn) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.flight > 0 || c.left > 0 {
		return errors.New("a request is in flight")
	}
	if err := c.Rest(ctx); err != nil {
		return err
	}
	now := time.Now()
	if now.Sub(c.used) > idleCheck {
		if err := c.alive(); err != nil {
			return err
		}
	}
	if !c.expiry.IsZero() && now.After(c.expiry) {
		if err := c.login(ctx); err != nil {
			return fmt.Errorf("re-authentication: %w", err)
		}
	}
	return nil
}

// Throttle makes the next request wait, as the broker has asked for (KIP-219).
func (c *Conn) Throttle(millis int32) {
	if millis > 0 {
		c.throttled = time.Now().Add(time.Duration(millis) * time.Millisecond)
	}
}

// Rest waits until the time that was given to Throttle is over. Send waits, too; a caller that
// holds something that others wait for calls Rest before it takes it. The error is that of ctx.
func (c *Conn) Rest(ctx context.Context) error {
	wait := time.Until(c.throttled)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// extend sets a deadline at d from now, unless the present one will do.
func (c *Conn) extend(d time.Duration) {
	now := time.Now()
	// Setting a deadline costs time, so one that is a little later than asked for is kept.
	if want := now.Add(d); want.After(c.deadline) || c.deadline.Sub(want) > d {
		c.deadline = now.Add(d + d/4)
		_ = c.nc.SetDeadline(c.deadline)
	}
}

// write writes a request. n = 0 means that no byte of it was written.
func (c *Conn) write(m *message) (n int64, err error) {
	if c.tcp != nil {
		return m.parts.WriteTo(c.tcp)
	}
	// Small parts are joined, so that they share a TLS record; large ones are written without a
	// copy.
	if c.bounce == nil {
		c.bounce = make([]byte, 0, bounceSize)
	}
	put := func(b []byte) error {
		w, err := c.nc.Write(b)
		n += int64(w)
		if err != nil {
			n = max(n, 1) // with TLS nobody knows how much was written
		}
		return err
	}
	b := c.bounce[:0]
	for _, part := range m.parts {
		for len(part) > 0 {
			if len(b) == 0 && len(part) >= bounceSize {
				whole := len(part) &^ (bounceSize - 1)
				if err := put(part[:whole]); err != nil {
					return n, err
				}
				part = part[whole:]
				continue
			}
			take := min(len(part), bounceSize-len(b))
			b, part = append(b, part[:take]...), part[take:]
			if len(b) == bounceSize {
				if err := put(b); err != nil {
					return n, err
				}
				b = b[:0]
			}
		}
	}
	if len(b) > 0 {
		return n, put(b)
	}
	return n, nil
}

// Receive waits for the response to the first request that is not answered yet. It returns the size
// of the body in bytes: what follows the correlation id. The body is not read yet, and may never
// arrive: Read reads it.
func (c *Conn) Receive() (size int, err error) { return c.receive(maxResponse) }

func (c *Conn) receive(most int) (size int, err error) {
	if c.flight == 0 || c.left > 0 {
		return 0, errors.New("no request is in flight")
	}
	if c.flight > 1 {
		c.extend(c.wait + c.overhead)
	}
	if _, err := io.ReadFull(c.nc, c.header[:]); err != nil {
		return 0, c.failed(err)
	}
	c.flight--
	asked := c.correlation - int32(c.flight)
	size = int(int32(binary.BigEndian.Uint32(c.header[:4]))) - 4
	if size < 0 || size > most {
		return 0, fmt.Errorf("%w: %d bytes from %s, at most %d are allowed", ErrMalformed, size+4, c.addr, most+4)
	}
	if got := int32(binary.BigEndian.Uint32(c.header[4:])); got != asked {
		return 0, fmt.Errorf("%w: %s answered request %d, not %d", ErrMalformed, c.addr, got, asked)
	}
	c.left, c.size = size, size
	c.complete = time.Now().Add(allowance*c.overhead + time.Duration(size)*time.Second/leastPace)
	if size == 0 {
		c.used = time.Now()
	}
	return size, nil
}

// Read reads len(p) bytes of the body. It goes on as long as some bytes come within each overhead,
// and the whole response comes at leastPace. So a slow broker cannot hold up its caller for ever.
func (c *Conn) Read(p []byte) error {
	if len(p) > c.left {
		return errors.New("beyond the end of the response")
	}
	for len(p) > 0 {
		c.extend(c.overhead)
		n, err := c.nc.Read(p)
		p, c.left = p[n:], c.left-n
		if err != nil && len(p) > 0 {
			return c.failed(err)
		}
		if len(p) > 0 && time.Now().After(c.complete) {
			return fmt.Errorf("%w: %s sends a response of %d bytes at less than %d bytes a second; %d are missing",
				os.ErrDeadlineExceeded, c.addr, c.size, leastPace, c.left)
		}
	}
	if c.left == 0 {
		c.used = time.Now()
	}
	return nil
}

// failed returns the context's error if that closed the connection, else a description of err.
func (c *Conn) failed(err error) error {
	if c.followed != nil && c.followed.Err() != nil {
		return c.followed.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s closed the connection: %w", c.addr, err)
	}
	return err
}
