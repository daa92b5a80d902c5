package e2e

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawTimeout is for a machine on which every core is busy.
const rawTimeout = time.Minute

// raw is one connection on which a test sends what it likes, in the version it likes.
type raw struct {
	t    testing.TB
	conn net.Conn
	ids  int32
}

// dialRaw connects; the connection ends with the test.
func dialRaw(t testing.TB, addr string) *raw {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, rawTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn}
}

// send writes a request in a version, without reading its answer.
func (r *raw) send(req kmsg.Request, version int16) {
	r.t.Helper()
	req.SetVersion(version)
	r.ids++
	_ = r.conn.SetDeadline(time.Now().Add(rawTimeout))
	if _, err := r.conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, r.ids)); err != nil {
		r.t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), version, err)
	}
}

// ask sends a request and decodes its answer.
func ask[R kmsg.Response](r *raw, req kmsg.Request, version int16) R {
	r.t.Helper()
	r.send(req, version)
	return receive[R](r, req, version)
}

// receive reads the answer to the request that was sent last.
func receive[R kmsg.Response](r *raw, req kmsg.Request, version int16) R {
	r.t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(rawTimeout))
	name := kmsg.NameForKey(req.Key())
	var size [4]byte
	if _, err := io.ReadFull(r.conn, size[:]); err != nil {
		r.t.Fatalf("%s v%d: %v", name, version, err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r.conn, frame); err != nil {
		r.t.Fatalf("%s v%d: %v", name, version, err)
	}
	if id := int32(binary.BigEndian.Uint32(frame)); id != r.ids {
		r.t.Fatalf("%s v%d: answer %d to request %d", name, version, id, r.ids)
	}
	body := frame[4:]
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if body[0] != 0 {
			r.t.Fatalf("%s v%d: %d tags in the header", name, version, body[0])
		}
		body = body[1:]
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(body); err != nil {
		r.t.Fatalf("%s v%d: %v", name, version, err)
	}
	return resp.(R)
}

// versions are all that the server at the other end lists for an API.
func (r *raw) versions(key kmsg.Key) (all []int16) {
	r.t.Helper()
	resp := ask[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 0)
	for _, k := range resp.ApiKeys {
		if k.ApiKey == int16(key) {
			for v := k.MinVersion; v <= k.MaxVersion; v++ {
				all = append(all, v)
			}
		}
	}
	if len(all) == 0 {
		r.t.Fatalf("%s is not listed", kmsg.NameForKey(int16(key)))
	}
	return all
}

// servers are connections to all brokers of a cluster, or of klink before one, and who leads what
// there.
type servers struct {
	t    testing.TB
	adm  *kadm.Client
	raws map[int32]*raw
	meta kadm.Metadata
}

// dialServers connects to all brokers that the bootstrap server tells of.
func dialServers(ctx context.Context, t testing.TB, cl *kgo.Client, topics ...string) *servers {
	t.Helper()
	s := &servers{t: t, adm: kadm.NewClient(cl), raws: map[int32]*raw{}}
	s.refresh(ctx, topics...)
	return s
}

// refresh asks who leads the topics.
func (s *servers) refresh(ctx context.Context, topics ...string) {
	s.t.Helper()
	var err error
	if s.meta, err = s.adm.Metadata(ctx, topics...); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range s.meta.Brokers {
		if s.raws[b.NodeID] == nil {
			s.raws[b.NodeID] = dialRaw(s.t, net.JoinHostPort(b.Host, itoa(b.Port)))
		}
	}
}

// leader is the connection to the leader of a partition.
func (s *servers) leader(topic string, partition int32) *raw {
	s.t.Helper()
	p, ok := s.meta.Topics[topic].Partitions[partition]
	if !ok || s.raws[p.Leader] == nil {
		s.t.Fatalf("no leader of %s-%d: %+v", topic, partition, p)
	}
	return s.raws[p.Leader]
}

func (s *servers) id(topic string) [16]byte { return s.meta.Topics[topic].ID }
