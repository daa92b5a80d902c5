package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// hostile is one connection of a client that means harm. Nothing that happens to it fails the test:
// klink may close it at any time.
type hostile struct {
	net.Conn
	ids int32
}

var errNoAnswer = errors.New("no answer that can be read")

// dialHostile connects; the connection ends with ctx.
func dialHostile(ctx context.Context, addr string) (*hostile, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	return &hostile{Conn: conn}, nil
}

// send writes a request in a version.
func (h *hostile) send(req kmsg.Request, version int16) error {
	req.SetVersion(version)
	h.ids++
	_, err := h.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, req, h.ids))
	return err
}

// read reads one response frame without its size, of at most 64 MiB.
func (h *hostile) read() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(h, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > 64<<20 {
		return nil, fmt.Errorf("%w: a frame of %d bytes", errNoAnswer, n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(h, frame)
	return frame, err
}

// askHostile sends a request and decodes its answer.
func askHostile[R kmsg.Response](h *hostile, req kmsg.Request, version int16) (resp R, err error) {
	if err = h.send(req, version); err != nil {
		return resp, err
	}
	frame, err := h.read()
	if err != nil {
		return resp, err
	}
	body := frame[4:]
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return resp, errNoAnswer
		}
		body = body[1:]
	}
	r := req.ResponseKind()
	if err := r.ReadFrom(body); err != nil {
		return resp, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	resp, ok := r.(R)
	if !ok {
		return resp, fmt.Errorf("%w: a %T", errNoAnswer, r)
	}
	return resp, nil
}

// login authenticates with SASL/PLAIN.
func (h *hostile) login(user, password string) error {
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = "PLAIN"
	if _, err := askHostile[*kmsg.SASLHandshakeResponse](h, hello, 1); err != nil {
		return err
	}
	auth := kmsg.NewPtrSASLAuthenticateRequest()
	auth.SASLAuthBytes = []byte("\x00" + user + "\x00" + password)
	resp, err := askHostile[*kmsg.SASLAuthenticateResponse](h, auth, 1)
	if err == nil && resp.ErrorCode != 0 {
		err = fmt.Errorf("login of %s: error code %d", user, resp.ErrorCode)
	}
	return err
}

// requestFrame is a request frame of any bytes: the header of version 1 or 2, then the body.
func requestFrame(key, version int16, flexible bool, body []byte) []byte {
	b := make([]byte, 4, 64+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = append(b, 'h')
	if flexible {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// attacker is one of the hostile clients. It draws from its own source of randomness, so that a
// seed repeats what it does.
type attacker struct {
	*rand.Rand
	site *hostileSite
}

// broker is the address of one of klink's listeners.
func (a *attacker) broker() string {
	return a.site.addrs[a.IntN(len(a.site.addrs))]
}

// stranger is a connection without a login.
func (a *attacker) stranger(ctx context.Context) (*hostile, error) {
	return dialHostile(ctx, a.broker())
}

// mallory is a connection of an ordinary user who may read mirrors and write a topic of her own,
// and nothing else.
func (a *attacker) mallory(ctx context.Context) (*hostile, error) {
	return a.as(ctx, malloryUser, malloryPassword, a.broker())
}

func (a *attacker) as(ctx context.Context, user, password, addr string) (*hostile, error) {
	h, err := dialHostile(ctx, addr)
	if err != nil {
		return nil, err
	}
	if err := h.login(user, password); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// trickle sends the first bytes of a frame of size bytes, and then one at a time until ctx ends.
func (h *hostile) trickle(ctx context.Context, size int, every time.Duration) error {
	b := requestFrame(3, 8, false, nil)
	binary.BigEndian.PutUint32(b, uint32(size))
	if _, err := h.Write(b); err != nil {
		return err
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			if _, err := h.Write([]byte{0}); err != nil {
				return err
			}
		}
	}
}

// bombs are bodies that a decoder which believes them takes long for, or allocates much for.
func bombs(flexible bool) [][]byte {
	if flexible {
		huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-1 as an unsigned varint
		zeros := make([]byte, 64)
		return [][]byte{
			huge,                       // an array, or a string
			append([]byte{1}, huge...), // an empty array, then tags
			append(zeros, huge...),
			[]byte(strings.Repeat(string(huge), 1000)),
			append([]byte{0x81, 0x80, 0x40}, make([]byte, 1<<20)...), // an array of a million elements of nothing
		}
	}
	return [][]byte{
		{0x7f, 0xff, 0xff, 0xff},
		{0xff, 0xff, 0xff, 0xfe},
		append([]byte{0, 0x10, 0, 0}, make([]byte, 1<<20)...),
		[]byte(strings.Repeat("\x00\x00\xff\xff", 1<<16)),
	}
}
