package kafkaclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asked is a request as a fake broker sees it.
type asked struct {
	key, version int16
	correlation  int32
	body         []byte
}

// fakeBroker starts a broker that responds with answer; nil = with honest.
func fakeBroker(t testing.TB, answer func(nc net.Conn, r asked) []byte) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	serve := func(nc net.Conn) {
		defer nc.Close()
		for {
			var size [4]byte
			if _, err := io.ReadFull(nc, size[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(size[:]))
			if _, err := io.ReadFull(nc, b); err != nil {
				return
			}
			r := kbin.Reader{Src: b}
			a := asked{key: r.Int16(), version: r.Int16(), correlation: r.Int32(), body: b}
			frame := answer(nc, a)
			if frame == nil {
				frame = a.frame(honest(a, ln.Addr().String()))
			}
			if _, err := nc.Write(frame); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(nc)
		}
	}()
	return ln.Addr().String()
}

// frame returns a response with a correct header and the given body.
func (a asked) frame(body []byte) []byte {
	req := kmsg.RequestForKey(a.key)
	req.SetVersion(a.version)
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(a.correlation))
	if req.IsFlexible() && a.key != int16(kmsg.ApiVersions) {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// honest returns the response of a real broker with one partition.
func honest(a asked, addr string) []byte {
	resp := kmsg.ResponseForKey(a.key)
	resp.(interface{ Default() }).Default()
	resp.SetVersion(a.version)
	switch resp := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		for key := int16(0); key <= kmsg.MaxKey; key++ {
			if m, ok := protocol.MessageOf(key); ok {
				resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: m.Max})
			}
		}
	case *kmsg.MetadataResponse:
		host, port, _ := net.SplitHostPort(addr)
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host = 1, host
		_, _ = fmt.Sscan(port, &b.Port)
		resp.Brokers, resp.ControllerID = append(resp.Brokers, b), 1
	}
	return resp.AppendTo(nil)
}

// client returns a client with Properties.Options.
func client(t testing.TB, p Properties, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	all, err := p.Options()
	require.NoError(t, err)
	cl, err := kgo.NewClient(append(all, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// counted runs f and returns the bytes that were allocated during it.
func counted(f func()) (bytes uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

var fourBillion = binary.AppendUvarint(nil, 1<<32-1)

// Whatever a hostile broker sends, it gets an error on its connection and costs neither time nor
// memory.
//
// Before the guard existed, each tag bomb took a minute of CPU, each count bomb a hundred times its
// size in memory, and each length as much memory as it claimed.
func TestHostileBroker(t *testing.T) {
	of := func(key kmsg.Key, body func(a asked) []byte) func(net.Conn, asked) []byte {
		return func(_ net.Conn, a asked) []byte {
			if kmsg.Key(a.key) != key {
				return nil
			}
			return body(a)
		}
	}
	// metadata is a response with a custom end.
	metadata := func(end func() []byte) func(net.Conn, asked) []byte {
		return of(kmsg.Metadata, func(a asked) []byte {
			body := honest(a, "127.0.0.1:1")
			return a.frame(append(body[:len(body)-1], end()...))
		})
	}
	sized := func(n uint32) func(a asked) []byte {
		return func(a asked) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, n), uint32(a.correlation))
		}
	}
	for _, c := range []struct {
		name   string
		answer func(net.Conn, asked) []byte
		wants  string
	}{
		{"four billion tags", metadata(func() []byte { return append(fourBillion, 1, 1, 1) }), "Metadata v"},
		{"four billion tags in the header", of(kmsg.Metadata, func(a asked) []byte {
			b := a.frame(honest(a, "127.0.0.1:1"))
			b = append(append(b[:8:8], fourBillion...), b[9:]...)
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			return b
		}), "Metadata v"},
		{"four billion tags, of versions", of(kmsg.ApiVersions, func(a asked) []byte {
			return a.frame(append([]byte{0, 0, 1, 0, 0, 0, 0}, fourBillion...))
		}), "ApiVersions v"},
		{"four billion tags in a known tag, of versions", of(kmsg.ApiVersions, func(a asked) []byte {
			tag := append([]byte{2, 2, 'f', 0, 0, 0, 0}, fourBillion...) // one feature
			return a.frame(append([]byte{0, 0, 1, 0, 0, 0, 0, 1, 0, byte(len(tag))}, tag...))
		}), "ApiVersions v"},
		{"versions in v0 and as asked for", of(kmsg.ApiVersions, func(a asked) []byte {
			return a.frame(append([]byte{0, 35, 0, 0, 0, 4}, make([]byte, 24)...))
		}), ""},
		{"eight million topics in as many bytes", of(kmsg.Metadata, func(a asked) []byte {
			body := append([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, binary.AppendUvarint(nil, 8<<20+1)...)
			return a.frame(append(body, make([]byte, 8<<20)...))
		}), "Metadata v"},
		{"empty topics without end", of(kmsg.Metadata, func(a asked) []byte {
			body := append([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, binary.AppendUvarint(nil, 2<<20+1)...)
			return a.frame(append(body, make([]byte, 28*2<<20)...)) // 56 MiB, 250 MiB decoded
		}), "memory"},
		{"five thousand brokers", of(kmsg.Metadata, func(a asked) []byte {
			resp := kmsg.NewPtrMetadataResponse()
			resp.Version, resp.Brokers = a.version, make([]kmsg.MetadataResponseBroker, 5000)
			return a.frame(resp.AppendTo(nil))
		}), "names 5000 brokers"},
		{"100 MiB of versions", of(kmsg.ApiVersions, sized(100<<20)), "a size of 104857600 bytes"},
		{"2 GiB of metadata", of(kmsg.Metadata, sized(1<<31-1)), "a size of 2147483647 bytes"},
		{"a negative size", of(kmsg.Metadata, sized(1<<31)), "a size of -2147483648 bytes"},
		{"a size without a correlation id", of(kmsg.Metadata, sized(3)), "a size of 3 bytes"},
		{"another correlation id", of(kmsg.Metadata, func(a asked) []byte {
			a.correlation++
			return a.frame(honest(a, "127.0.0.1:1"))
		}), "it answers request"},
		{"HTTP", of(kmsg.ApiVersions, func(asked) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }), "it speaks HTTP"},
		{"a TLS alert", of(kmsg.ApiVersions, func(asked) []byte { return []byte{21, 3, 3, 0, 2, 2, 80} }), "the listener requires TLS"},
		{"a response that drips", func(nc net.Conn, a asked) []byte {
			if a.key != int16(kmsg.Metadata) {
				return nil
			}
			go func() {
				for _, b := range append(sized(50<<20)(a), make([]byte, 1<<20)...) {
					time.Sleep(10 * time.Millisecond)
					if _, err := nc.Write([]byte{b}); err != nil {
						return
					}
				}
			}()
			return []byte{}
		}, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := fakeBroker(t, c.answer)
			timeout := "15000"
			if c.wants == "timeout" {
				timeout = "500"
			}
			cl := client(t, Properties{"bootstrap.servers": addr, "request.timeout.ms": timeout}, kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the unguarded client takes minutes
			defer cancel()
			var err error
			// A refused frame is also in the memory of the fake broker, which is this process.
			most := uint64(300 << 20)
			if !strings.Contains(c.name, "topics") {
				most = 16 << 20
			}
			if took := counted(func() { _, err = kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl) }); took > most {
				t.Errorf("%d bytes were allocated", took)
			}
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "the client is busy")
			require.ErrorContains(t, err, c.wants)
			if refused := new(ResponseError); c.wants != "" && c.wants != "timeout" && errors.As(err, &refused) {
				require.Equal(t, addr, refused.Broker)
				require.ErrorIs(t, err, protocol.ErrMalformed)
			} else if c.wants != "" && c.wants != "timeout" {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}

// A response to a user's own ApiVersions request is decoded in the version of the request, even if
// it claims to be in v0.
func TestVersionsAreSettled(t *testing.T) {
	n := 0
	addr := fakeBroker(t, func(_ net.Conn, a asked) []byte {
		if a.key != int16(kmsg.ApiVersions) {
			return nil
		}
		if n++; n == 1 {
			return nil
		}
		// In v0: refused, one key. In v3: refused, no keys, throttled, four billion tags.
		return a.frame(append([]byte{0, 35, 0, 0, 0, 1, 0}, fourBillion...))
	})
	cl := client(t, Properties{"bootstrap.servers": addr, "request.timeout.ms": "500"}, kgo.RequestRetries(0))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "1"
	_, err := req.RequestWith(ctx, cl)
	require.ErrorContains(t, err, "ApiVersions v")
	require.NoError(t, ctx.Err())
}

// Brokers that begin large responses and never finish them are bounded, over all connections to a
// cluster.
func TestUnfinishedResponsesAreBounded(t *testing.T) {
	d := dialer{held: new(atomic.Int64)}
	d.held.Store(maxHeld - 3*chunkSize)
	addr := fakeBroker(t, func(_ net.Conn, a asked) []byte {
		return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 50<<20), uint32(a.correlation)), make([]byte, 1<<20)...)
	})
	nc, err := d.dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	_, err = nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1))
	require.NoError(t, err)
	_, err = nc.Read(make([]byte, 100))
	require.ErrorContains(t, err, "sent more than")
	_, err = nc.Read(make([]byte, 100))
	require.ErrorContains(t, err, "sent more than", "for good")
	_ = nc.Close()
	require.EqualValues(t, maxHeld-3*chunkSize, d.held.Load(), "what was held is given back")
}

// klink refuses to send a request whose response it cannot bound.
func TestRequestsWithoutAShapeAreRefused(t *testing.T) {
	addr := fakeBroker(t, func(net.Conn, asked) []byte { return nil })
	for name, frame := range map[string][]byte{
		"an unknown key":      {0, 0, 0, 10, 0x40, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"a version too high":  {0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff},
		"half a request":      {0, 0, 0, 50, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"a bare token":        {0, 0, 0, 4, 0, 'u', 0, 'p'},
		"a handshake in v0":   {0, 0, 0, 12, 0, 17, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0},
		"a link API's future": {0, 0, 0, 11, 0x3a, 0x98, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := dialer{held: new(atomic.Int64)}.dial(t.Context(), "tcp", addr)
			require.NoError(t, err)
			_, err = nc.Write(frame)
			require.ErrorContains(t, err, addr)
			require.ErrorAs(t, err, new(*ResponseError))
			_, err = nc.Read(make([]byte, 1))
			require.ErrorAs(t, err, new(*ResponseError))
		})
	}
	a, ok, err := readRequest(kmsg.NewRequestFormatter().AppendRequest(nil, &linkapi.ListLinksRequest{}, 1))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, linkapi.KeyListLinks, a.key)
}

// Every API of kmsg has a shape for each of its versions, so that none can be forgotten.
func TestEveryRequestHasAShape(t *testing.T) {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if key == int16(kmsg.ControlledShutdown) && v == 0 {
				continue // kmsg writes it without its size
			}
			req.SetVersion(v)
			a, ok, err := readRequest(kmsg.NewRequestFormatter(kmsg.FormatterClientID("c")).AppendRequest(nil, req, 7))
			if key == int16(kmsg.SASLHandshake) && v == 0 {
				require.ErrorContains(t, err, "KIP-152")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, !ok, key == 0, "%s v%d: only a produce, with acks 0, has no response", kmsg.NameForKey(key), v)
			require.EqualValues(t, 7, a.correlation)
			if ok && (a.limit <= 0 || a.shape == nil) {
				t.Errorf("%s v%d: limit %d", kmsg.NameForKey(key), v, a.limit)
			}
		}
	}
}

// A client does not notice the guard: it produces with any acks, consumes alone and in a group, in
// large and small fetches, and administers.
func TestClientsWorkThroughTheGuard(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(3, "orders"))
	require.NoError(t, err)
	defer cluster.Close()
	p := Properties{"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ",")}
	const n = 3000
	for _, acks := range []kgo.Acks{kgo.AllISRAcks(), kgo.NoAck()} {
		cl := client(t, p, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite(), kgo.DefaultProduceTopic("orders"))
		for i := range n {
			cl.Produce(t.Context(), kgo.StringRecord(strings.Repeat(fmt.Sprint(i), 100)), nil)
		}
		require.NoError(t, cl.Flush(t.Context()))
	}
	for _, opts := range [][]kgo.Opt{
		{},
		{kgo.ConsumerGroup("g")},
		{kgo.FetchMaxBytes(1), kgo.FetchMaxPartitionBytes(1)},
	} {
		cl := client(t, p, append(opts, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		for got := 0; got < 2*n; {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			f := cl.PollFetches(ctx)
			cancel()
			require.NoError(t, f.Err())
			got += f.NumRecords()
		}
	}
	cl := client(t, p)
	adm := kadm.NewClient(cl)
	_, err = adm.CreateTopics(t.Context(), 1, 1, nil, "a", "b")
	require.NoError(t, err)
	topics, err := adm.ListTopics(t.Context())
	require.NoError(t, err)
	require.Len(t, topics, 3)
	_, err = adm.DescribeTopicConfigs(t.Context(), "a")
	require.NoError(t, err)
	_, err = adm.ListEndOffsets(t.Context(), "orders")
	require.NoError(t, err)
	guards, _ := adm.DescribeGroups(t.Context(), "g")
	require.Len(t, guards, 1)
}

// The client refuses a broker that asks for two billion hash iterations.
func TestSCRAMIterationsAreBounded(t *testing.T) {
	first := make(chan error, 1)
	addr := fakeBroker(t, func(_ net.Conn, a asked) []byte {
		if a.key != int16(kmsg.SASLAuthenticate) {
			return nil
		}
		nonce := a.body[strings.Index(string(a.body), "r=")+2:]
		resp := kmsg.NewPtrSASLAuthenticateResponse()
		resp.Version = a.version
		resp.SASLAuthBytes = fmt.Appendf(nil, "r=%sX,s=c2FsdA==,i=2147483647", strings.TrimRight(string(nonce), "\x00"))
		return a.frame(resp.AppendTo(nil))
	})
	p := Properties{
		"bootstrap.servers": addr, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512",
		"sasl.jaas.config": `org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="S3CRET";`,
	}
	cl := client(t, p, kgo.RequestRetries(0))
	go func() { first <- cl.Ping(t.Context()) }()
	select {
	case err := <-first:
		require.ErrorContains(t, err, `asks for "2147483647" SCRAM iterations`)
		require.NotContains(t, err.Error(), "S3CRET")
	case <-time.After(20 * time.Second):
		t.Fatal("the client is hashing")
	}
}

// FuzzGuard: whatever a broker sends, the guard hands on only what the client can decode, or ends
// with an error.
func FuzzGuard(f *testing.F) {
	for _, key := range []int16{1, 3, 18, 32} {
		m, _ := protocol.MessageOf(key)
		a := asked{key: key, version: m.Max, correlation: 1}
		frame := a.frame(honest(a, "127.0.0.1:9092"))
		f.Add(key, m.Max, frame)
		f.Add(key, m.Max, append(append(frame[:8:8], fourBillion...), frame[8:]...))
	}
	f.Add(int16(18), int16(4), []byte{0, 0, 0, 16, 0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3})
	f.Add(int16(3), int16(12), []byte("HTTP/1.1"))
	f.Fuzz(func(t *testing.T, key, version int16, b []byte) {
		req := kmsg.RequestForKey(key)
		if req == nil || version < 0 || version > req.MaxVersion() || key == 0 || key == 17 || key == 7 {
			return
		}
		req.SetVersion(version)
		ours, theirs := net.Pipe()
		go func() {
			request := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
			_, _ = io.ReadFull(theirs, request)
			_, _ = theirs.Write(b)
			_ = theirs.Close()
		}()
		g := newGuard(ours, "fuzz", new(atomic.Int64))
		defer g.Close()
		if _, err := g.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(g)
		if err == nil || len(got) == 0 {
			return // with an error it hands on nothing or all of it
		}
		if len(got) < 8 || int(binary.BigEndian.Uint32(got))+4 != len(got) {
			t.Fatalf("%d bytes of a response were handed on: %v", len(got), err)
		}
	})
}
