package linkapi

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// server is as much of a klink as a client needs to send link requests: it lists the link APIs, and
// answers each request with the sample response of its key.
type server struct {
	t        *testing.T
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	requests []kmsg.Request // as received
	conns    []net.Conn
}

func startServer(t *testing.T) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{t: t, listener: l}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		if _, err := c.Write(s.answer(frame)); err != nil {
			return
		}
	}
}

func (s *server) answer(frame []byte) []byte {
	r := kbin.Reader{Src: frame}
	key, version, correlation := r.Int16(), r.Int16(), r.Int32()
	r.NullableString() // client id
	var resp kmsg.Response
	header := 8
	switch key {
	case int16(kmsg.ApiVersions):
		v := kmsg.NewPtrApiVersionsResponse()
		v.Version = version
		v.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 18, MaxVersion: 3}, {ApiKey: 3, MaxVersion: 12}}
		for _, a := range APIs() {
			v.ApiKeys = append(v.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: a.Key, MinVersion: a.Min, MaxVersion: a.Max})
		}
		resp = v
	case int16(kmsg.Metadata):
		m := kmsg.NewPtrMetadataResponse()
		m.Version = version
		addr := s.listener.Addr().(*net.TCPAddr)
		m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "127.0.0.1", Port: int32(addr.Port)}}
		m.ControllerID = 1
		resp, header = m, 9
	default:
		kmsg.SkipTags(&r)
		req, err := ReadRequest(key, version, r.Src)
		if err != nil {
			s.t.Errorf("request of key %d: %v", key, err)
			return nil
		}
		s.mu.Lock()
		s.requests = append(s.requests, req)
		s.mu.Unlock()
		for _, m := range samples() {
			if p, ok := m.(kmsg.Response); ok && p.Key() == key {
				resp, header = p, 9
			}
		}
	}
	out := make([]byte, header)
	binary.BigEndian.PutUint32(out[4:], uint32(correlation))
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func TestClientRequest(t *testing.T) {
	s := startServer(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.listener.Addr().String()), kgo.MaxVersions(nil))
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := samples()
	for i := 0; i < len(all); i += 2 {
		req, want := all[i].(kmsg.Request), all[i+1]
		resp, err := cl.Request(ctx, req)
		require.NoError(t, err, nameOf(req))
		require.Equal(t, want, resp)
		s.mu.Lock()
		got := s.requests[len(s.requests)-1]
		s.mu.Unlock()
		require.Equal(t, req, got)
	}
}
