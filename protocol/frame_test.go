package protocol

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

// allVersions runs f for every key and version of the table, with an empty request.
func allVersions(f func(req kmsg.Request)) {
	for _, a := range APIs() {
		for v := a.Min; v <= a.Max; v++ {
			req := kmsg.RequestForKey(a.Key)
			if link, ok := linkapi.NewRequest(a.Key); ok {
				req = link
			}
			req.SetVersion(v)
			f(req)
		}
	}
}

// The header that kmsg writes is read back, for every key and version, with and without a client
// id.
func TestRequestHeader(t *testing.T) {
	allVersions(func(req kmsg.Request) {
		for _, client := range []*string{nil, ptr(""), ptr("tester")} {
			var opts []kmsg.RequestFormatterOpt
			if client != nil {
				opts = append(opts, kmsg.FormatterClientID(*client))
			}
			frame := kmsg.NewRequestFormatter(opts...).AppendRequest(nil, req, 77)
			h, err := ParseRequestHeader(frame)
			if err != nil {
				t.Fatalf("key %d v%d: %v", req.Key(), req.GetVersion(), err)
			}
			if h.Key != req.Key() || h.Version != req.GetVersion() || h.CorrelationID != 77 || h.Flexible != req.IsFlexible() {
				t.Fatalf("key %d v%d: %+v", req.Key(), req.GetVersion(), h)
			}
			if (h.ClientID == nil) != (client == nil) || client != nil && string(h.ClientID) != *client {
				t.Fatalf("client id %q", h.ClientID)
			}
			if body := req.AppendTo(nil); !bytes.Equal(frame[h.Body:], body) {
				t.Fatalf("key %d v%d: body %x, want %x", req.Key(), req.GetVersion(), frame[h.Body:], body)
			}
			if again := AppendRequest(nil, h, req); !bytes.Equal(again, frame) {
				t.Fatalf("key %d v%d: AppendRequest makes %x of %x", req.Key(), req.GetVersion(), again, frame)
			}
			for cut := range h.Body {
				if short, err := ParseRequestHeader(frame[:cut]); err == nil && short.Body >= 0 {
					t.Fatalf("key %d v%d: header of %d bytes taken from %d", req.Key(), req.GetVersion(), h.Body, cut)
				} else if err != nil && !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestResponseBody(t *testing.T) {
	allVersions(func(req kmsg.Request) {
		resp := req.ResponseKind()
		h, frame := responseFrame(resp)
		if body := resp.AppendTo(nil); !bytes.Equal(frame[h.ResponseBody(frame):], body) {
			t.Fatalf("key %d v%d", req.Key(), req.GetVersion())
		}
	})
	flexible := RequestHeader{Key: 1, Version: 12, Flexible: true}
	for _, frame := range [][]byte{nil, make([]byte, 7), make([]byte, 8), append(make([]byte, 8), 0xff, 0xff, 0xff, 0xff, 0x0f)} {
		if at := flexible.ResponseBody(frame); at != -1 {
			t.Errorf("% x: body at %d", frame, at)
		}
	}
}

func TestRequestHeaderUnknown(t *testing.T) {
	for _, c := range [][2]int16{{-1, 0}, {4, 0}, {17, 0}, {24, 4}, {18, 6}, {1, 19}, {1, -1}, {93, 0}, {14999, 0}, {15013, 0}, {32767, 0}, {-32768, 0}} {
		frame := append([]byte{0, 0, 0, 8, byte(c[0] >> 8), byte(c[0]), byte(c[1] >> 8), byte(c[1])}, 0, 0, 0, 9)
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body != -1 || h.Key != c[0] || h.Version != c[1] || h.CorrelationID != 9 {
			t.Errorf("%v: %+v, %v", c, h, err)
		}
	}
}

func FuzzParseRequestHeader(f *testing.F) {
	allVersions(func(req kmsg.Request) {
		f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("tester")).AppendRequest(nil, req, 77))
	})
	f.Add([]byte("\x00\x00\x00\x20\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err == nil && h.Body >= 0 && (h.Body < 14 || h.Body > len(frame)) {
			t.Fatalf("body at %d of %d", h.Body, len(frame))
		}
		if at := h.ResponseBody(frame); at > len(frame) {
			t.Fatalf("response body at %d of %d", at, len(frame))
		}
	})
}
