package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireTimeout bounds an exchange that hangs. An exchange that is merely slow is a measurement.
const wireTimeout = 20 * time.Second

// wire is a plain connection to a broker, or to a proxy in front of it, with one request at a time.
// It does nothing else: no batching, no retry, no metadata. So it measures the path of one request.
type wire struct {
	conn net.Conn
	buf  []byte
	corr uint32
}

// dialWire connects; config is nil for plaintext.
func dialWire(ctx context.Context, addr string, config *tls.Config) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
		}
		conn = secure
	}
	return &wire{conn: conn, corr: 1}, nil
}

func (w *wire) close() { w.conn.Close() }

// The fixed part of a request frame: its size (4 bytes), API key (2), version (2), correlation id
// (4).
const (
	atCorrelation = 8
	frameHead     = 12
)

// requestFrame returns a request as it goes over a wire, size first.
func requestFrame(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("klink-bench")).AppendRequest(nil, req, 0)
}

// send puts a new correlation id into a frame and writes the frame.
func (w *wire) send(frame []byte) error {
	w.corr++
	binary.BigEndian.PutUint32(frame[atCorrelation:], w.corr)
	_, err := w.conn.Write(frame)
	return err
}

// receive reads the response to the last request and returns the bytes behind its correlation id,
// valid until the next call. One read takes all bytes that are there, so that a small response
// costs one system call.
func (w *wire) receive() ([]byte, error) {
	if w.buf == nil {
		w.buf = make([]byte, 4<<10)
	}
	have := 0
	for have < 8 {
		n, err := w.conn.Read(w.buf[have:])
		if have += n; err != nil {
			return nil, err
		}
	}
	size := 4 + int(int32(binary.BigEndian.Uint32(w.buf)))
	if size < 8 || size > 1<<30 {
		return nil, fmt.Errorf("a response of %d bytes", size-4)
	}
	if have > size {
		return nil, fmt.Errorf("%d bytes more than the response that was asked for", have-size)
	}
	if size > len(w.buf) {
		bigger := make([]byte, size+size/8)
		copy(bigger, w.buf[:have])
		w.buf = bigger
	}
	if _, err := io.ReadFull(w.conn, w.buf[have:size]); err != nil {
		return nil, err
	}
	if corr := binary.BigEndian.Uint32(w.buf[4:]); corr != w.corr {
		return nil, fmt.Errorf("the response is to request %d, not to %d", corr, w.corr)
	}
	return w.buf[8:size], nil
}

// ask sends a frame and receives its response.
func (w *wire) ask(frame []byte) ([]byte, error) {
	if err := w.conn.SetDeadline(time.Now().Add(wireTimeout)); err != nil {
		return nil, err
	}
	if err := w.send(frame); err != nil {
		return nil, err
	}
	return w.receive()
}

// request makes a request that is not measured, and parses the answer in the version of req.
func (w *wire) request(req kmsg.Request) (kmsg.Response, error) {
	body, err := w.ask(requestFrame(req))
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
