// Package protocol is the lowest layer: Kafka frames and headers, klink's API table, and one file
// per API key that rewrites its requests and responses in place. It is pure: no sockets and no
// goroutines. It treats every byte as hostile.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every error about malformed bytes wraps ErrMalformed.
var ErrMalformed = errors.New("malformed message")

// RequestHeader is the header of a request frame (Kafka protocol guide, "Request Header" v1 and
// v2).
type RequestHeader struct {
	Key           int16
	Version       int16
	CorrelationID int32
	// Flexible: the request has tagged fields (KIP-482), and so header v2.
	Flexible bool
	// ClientID aliases the frame; nil = null.
	ClientID []byte
	// Body is the position in the frame at which the body begins.
	Body int
}

// ParseRequestHeader reads the header of a frame, which begins with its size prefix. If Supported
// does not know the key or version, Body is -1 and only Key, Version and CorrelationID are valid.
// They are enough to answer ApiVersions or to refuse the request.
func ParseRequestHeader(frame []byte) (RequestHeader, error) {
	if len(frame) < 12 {
		return RequestHeader{}, fmt.Errorf("%w: a request frame of %d bytes has no room for a header", ErrMalformed, len(frame))
	}
	h := RequestHeader{
		Key:           int16(binary.BigEndian.Uint16(frame[4:])),
		Version:       int16(binary.BigEndian.Uint16(frame[6:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[8:])),
		Body:          -1,
	}
	flexible, ok := Flexible(h.Key, h.Version)
	if !ok {
		return h, nil
	}
	h.Flexible = flexible
	// The client id has an int16 length in header v2 too (KIP-511).
	r := Reader{Buf: frame, At: 12}
	h.ClientID = r.String()
	r.Flexible = flexible
	r.Tags()
	if err := r.Err(); err != nil {
		return h, fmt.Errorf("header of API key %d version %d: %w", h.Key, h.Version, err)
	}
	h.Body = r.At
	return h, nil
}

// ResponseBody returns the position at which the body of a response frame begins: after the size,
// the correlation id and, in flexible versions of every API but ApiVersions, the tags of the
// header. It returns -1 for a malformed frame.
func (h RequestHeader) ResponseBody(frame []byte) int {
	if len(frame) < 8 {
		return -1
	}
	if !h.Flexible || h.Key == int16(kmsg.ApiVersions) {
		return 8
	}
	r := Reader{Buf: frame, At: 8, Flexible: true}
	r.Tags()
	if !r.Ok() {
		return -1
	}
	return r.At
}

// AppendResponse appends a whole response frame, with size prefix and header, that answers the
// request h with resp. The caller sets the version of resp to that of the request.
func AppendResponse(dst []byte, h RequestHeader, resp kmsg.Response) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.CorrelationID))
	if h.Flexible && h.Key != int16(kmsg.ApiVersions) {
		dst = append(dst, 0)
	}
	dst = resp.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// AppendRequest appends a whole request frame. It keeps the client id of h, so that the broker's
// logs, metrics and quotas see the client's own id.
func AppendRequest(dst []byte, h RequestHeader, req kmsg.Request) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(req.Key()))
	dst = binary.BigEndian.AppendUint16(dst, uint16(req.GetVersion()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.CorrelationID))
	if h.ClientID == nil {
		dst = append(dst, 0xff, 0xff)
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.ClientID)))
		dst = append(dst, h.ClientID...)
	}
	if req.IsFlexible() {
		dst = append(dst, 0)
	}
	dst = req.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
