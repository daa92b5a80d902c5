package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Timeout bounds an exchange that hangs, if [Conn.Timeout] says nothing else. An exchange that is
// merely slow is a measurement.
const Timeout = 20 * time.Second

// Conn is a connection to a broker, or to a proxy in front of it, which answers requests in their
// order. It ends with the context that it was dialled with.
type Conn struct {
	// Timeout bounds the time from a request to its answer.
	Timeout time.Duration

	conn net.Conn
	stop func() bool // keeps the end of the context from closing the connection
	sent uint32      // number of requests; also the last one's correlation id
	got  uint32      // number of answers
	out  []byte      // of Send, reused
	in   []byte      // of Ask and ReceiveProduce, reused
}

// Dial connects to the first address of a comma-separated list; config is nil for plaintext.
func Dial(ctx context.Context, addr string, config *tls.Config) (*Conn, error) {
	addr, _, _ = strings.Cut(addr, ",")
	begin, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(begin, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(begin); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
		}
		conn = secure
	}
	// Reads and writes that block end with the context.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &Conn{Timeout: Timeout, conn: conn, stop: stop}, nil
}

// Close closes the connection, and may be called twice.
func (c *Conn) Close() {
	c.stop()
	c.conn.Close()
}

// The fixed part of a request frame: its size (4 bytes), API key (2), version (2), correlation id
// (4).
const (
	atCorrelation = 8
	frameHead     = 12
)

const clientID = "klink-bench"

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))

// Frame returns a request as it goes over a connection, size first.
func Frame(req kmsg.Request) []byte { return formatter.AppendRequest(nil, req, 0) }

// number gives the frame of the next request its correlation id, and the exchange its deadline.
func (c *Conn) number(frame []byte) error {
	c.sent++
	binary.BigEndian.PutUint32(frame[atCorrelation:], c.sent)
	return c.conn.SetDeadline(time.Now().Add(c.Timeout))
}

// SendFrame sends a request that [Frame] has made, and does not wait for the answer. The frame can
// be sent again.
func (c *Conn) SendFrame(frame []byte) error {
	if err := c.number(frame); err != nil {
		return err
	}
	_, err := c.conn.Write(frame)
	return err
}

// Send sends a request, and does not wait for the answer.
func (c *Conn) Send(req kmsg.Request) error {
	c.out = formatter.AppendRequest(c.out[:0], req, 0)
	return c.SendFrame(c.out)
}

// Receive reads the next answer into buf, which grows if it is too small, and returns the bytes
// behind its correlation id, and buf. The body aliases buf.
func (c *Conn) Receive(buf []byte) (body, grown []byte, err error) {
	if cap(buf) < 8 {
		buf = make([]byte, 4<<10)
	}
	return c.receive(buf[:cap(buf)], 4)
}

// receive reads the next answer into buf. Its first read takes up to ahead bytes, which may hold no
// more than this answer.
func (c *Conn) receive(buf []byte, ahead int) (body, grown []byte, err error) {
	have, err := io.ReadAtLeast(c.conn, buf[:ahead], 4)
	if err != nil {
		return nil, buf, err
	}
	size := 4 + int(int32(binary.BigEndian.Uint32(buf)))
	if size < 8 || size > 1<<30 {
		return nil, buf, fmt.Errorf("a response of %d bytes", size-4)
	}
	if have > size {
		return nil, buf, fmt.Errorf("%d bytes more than the response that was asked for", have-size)
	}
	if size > len(buf) {
		bigger := make([]byte, size+size/4)
		copy(bigger, buf[:have])
		buf = bigger
	}
	if _, err := io.ReadFull(c.conn, buf[have:size]); err != nil {
		return nil, buf, err
	}
	c.got++
	if id := binary.BigEndian.Uint32(buf[4:]); id != c.got {
		return nil, buf, fmt.Errorf("the response is to request %d, not to %d", id, c.got)
	}
	return buf[8:size], buf, nil
}

// Ask sends a frame and returns the answer, valid until the next call. There must be no other
// request on its way: one read takes all bytes that are there, so that a small answer costs one
// system call.
func (c *Conn) Ask(frame []byte) (body []byte, err error) {
	if err := c.SendFrame(frame); err != nil {
		return nil, err
	}
	if c.in == nil {
		c.in = make([]byte, 4<<10)
	}
	body, c.in, err = c.receive(c.in, len(c.in))
	return body, err
}

// Request makes a request that is not measured, and parses the answer in the version of req. There
// must be no other request on its way.
func (c *Conn) Request(req kmsg.Request) (kmsg.Response, error) {
	body, err := c.Ask(Frame(req))
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		if body, err = skipTags(body); err != nil {
			return nil, err
		}
	}
	return resp, resp.ReadFrom(body)
}

// skipTags skips the tagged fields of a response header: brokers send none.
func skipTags(body []byte) ([]byte, error) {
	if len(body) == 0 || body[0] != 0 {
		return nil, fmt.Errorf("a response header with tagged fields, or cut short: % x", body[:min(len(body), 8)])
	}
	return body[1:], nil
}
