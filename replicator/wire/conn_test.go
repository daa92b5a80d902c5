package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// makeBatch returns a record batch of about size bytes, valid as far as brokers check it.
func makeBatch(size int) []byte {
	b := make([]byte, max(size, 61))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = 2
	for i := 43; i < 57; i++ {
		b[i] = 0xff // no producer
	}
	b[60] = 1
	for i := 61; i < len(b); i++ {
		b[i] = byte(i * i)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// connect connects with the options of a client.
func connect(t testing.TB, addr string, opts ...kgo.Opt) *Conn {
	t.Helper()
	cl := kafkatest.NewClient(t, append(opts, kgo.SeedBrokers(addr), kgo.ClientID("klink"))...)
	c, err := DialerOf(cl).Connect(t.Context(), addr)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// exchange sends a request and returns the body of the response.
func exchange(t testing.TB, c *Conn, r Request) []byte {
	t.Helper()
	require.NoError(t, c.Send(t.Context(), r, time.Second))
	size, err := c.Receive()
	require.NoError(t, err)
	body := make([]byte, size)
	require.NoError(t, c.Read(body))
	return body
}

// roundTrip appends batches to partitions of the topic, and fetches them.
func roundTrip(t testing.TB, c *Conn, topic string, id [16]byte, ids bool, batches [][]byte) {
	t.Helper()
	version, err := c.ProduceVersion(ids)
	require.NoError(t, err)
	var p ProduceRequest
	p.Begin(version, "klink", -1, 1000, 1)
	p.Topic(topic, &id, len(batches))
	for n, b := range batches {
		p.Partition(int32(n), b)
	}
	p.End()
	var produced ProduceResponse
	n := 0
	for produced.Reset(version, exchange(t, c, &p)); produced.Next(); n++ {
		require.NoError(t, kerr.ErrorForCode(produced.ErrorCode))
	}
	require.NoError(t, produced.Err())
	require.Equal(t, len(batches), n)

	version, err = c.FetchVersion(ids)
	require.NoError(t, err)
	var f FetchRequest
	f.Begin(version, "klink", FetchParams{MaxWaitMillis: 100, MinBytes: 1, MaxBytes: 64 << 20, ReadCommitted: true, SessionEpoch: -1}, 1)
	f.Topic(topic, &id, len(batches))
	for n := range batches {
		f.Partition(int32(n), -1, 0, 32<<20)
	}
	f.Forget(0)
	f.End()
	var fetched FetchResponse
	n = 0
	for fetched.Reset(version, exchange(t, c, &f)); fetched.Next(); n++ {
		require.NoError(t, kerr.ErrorForCode(fetched.ErrorCode))
		want := batches[fetched.Partition]
		require.GreaterOrEqual(t, len(fetched.Records), len(want))
		require.True(t, bytes.Equal(fetched.Records[16:len(want)], want[16:]), "the batch that came back differs")
	}
	require.NoError(t, fetched.Err())
	require.Equal(t, len(batches), n)
}

// certificates returns the TLS configurations of the server and of the client.
func certificates(t *testing.T) (server, client *tls.Config) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return &tls.Config{Certificates: s.TLS.Certificates}, s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

func topicID(t *testing.T, cl *kgo.Client, topic string) [16]byte {
	t.Helper()
	kafkatest.CreateTopic(t, cl, topic, 8, -1, nil)
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), cl)
	require.NoError(t, err)
	return resp.Topics[0].TopicID
}

// TestRoundTrip: what is appended comes back, in each version and over each kind of connection.
func TestRoundTrip(t *testing.T) {
	serverTLS, clientTLS := certificates(t)
	batches := [][]byte{makeBatch(61), makeBatch(900), makeBatch(1100), makeBatch(16 << 10), makeBatch(100_000), makeBatch(900_000), makeBatch(62), makeBatch(16384 + 500)}
	login := kgo.SASL(plain.Auth{User: "u", Pass: "p"}.AsMechanism())
	for _, c := range []struct {
		name    string
		cluster []kfake.Opt
		client  []kgo.Opt
		ids     bool
	}{
		{"plain", nil, nil, true},
		{"names", nil, nil, false},
		{"versions of 2.4", nil, []kgo.Opt{kgo.MaxVersions(kversion.V2_4_0())}, false},
		{"versions of 2.8", nil, []kgo.Opt{kgo.MaxVersions(kversion.V2_8_0())}, false},
		{"TLS", []kfake.Opt{kfake.TLS(serverTLS)}, []kgo.Opt{kgo.DialTLSConfig(clientTLS)}, true},
		{"SASL", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p")}, []kgo.Opt{login}, true},
		{
			"SCRAM, the second mechanism, over TLS",
			[]kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "u", "p"), kfake.TLS(serverTLS)},
			[]kgo.Opt{kgo.SASL(scram.Auth{User: "u", Pass: "p"}.AsSha512Mechanism()), kgo.DialTLSConfig(clientTLS)},
			true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := kafkatest.Embedded(t, 1, c.cluster...)
			addr := fake.ListenAddrs()[0]
			cl := kafkatest.NewClient(t, append(c.client, kgo.SeedBrokers(addr))...)
			id := topicID(t, cl, "orders")
			roundTrip(t, connect(t, addr, c.client...), "orders", id, c.ids, batches)
		})
	}
}

// TestLoginRefused: a wrong password is an error that says so, and nothing was sent.
func TestLoginRefused(t *testing.T) {
	fake := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	addr := fake.ListenAddrs()[0]
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(addr), kgo.SASL(plain.Auth{User: "u", Pass: "wrong"}.AsMechanism()))
	_, err := DialerOf(cl).Connect(t.Context(), addr)
	var unsent *UnsentError
	require.ErrorAs(t, err, &unsent)
	require.ErrorContains(t, err, "login")
}

// TestLoginIsRenewed: a login that expires is renewed on the same connection, before a request
// (KIP-368).
func TestLoginIsRenewed(t *testing.T) {
	fake := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"), kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1200"}))
	addr := fake.ListenAddrs()[0]
	login := kgo.SASL(plain.Auth{User: "u", Pass: "p"}.AsMechanism())
	id := topicID(t, kafkatest.NewClient(t, kgo.SeedBrokers(addr), login), "orders")
	var logins atomic.Int64
	c := connect(t, addr, login)
	fake.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		logins.Add(1)
		return nil, nil, false
	})
	kafkatest.WaitFor(t, time.Minute, "two logins", func() (bool, string) {
		roundTrip(t, c, "orders", id, true, [][]byte{makeBatch(100)})
		return logins.Load() >= 2, ""
	})
}

// script is a broker that accepts connections, answers ApiVersions, and then does what the test
// says.
func script(t *testing.T, then func(nc net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				header := readRequest(nc)
				if header == nil {
					return
				}
				resp := kmsg.NewPtrApiVersionsResponse()
				resp.Version = 3
				for key, most := range map[kmsg.Key]int16{kmsg.Produce: 9, kmsg.Fetch: 12} {
					k := kmsg.NewApiVersionsResponseApiKey()
					k.ApiKey, k.MaxVersion = int16(key), most
					resp.ApiKeys = append(resp.ApiKeys, k)
				}
				_, _ = nc.Write(answer(header, resp.AppendTo(nil)))
				then(nc)
			}()
		}
	}()
	return ln.Addr().String()
}

// readRequest reads one request; nil if there is none.
func readRequest(nc net.Conn) []byte {
	var size [4]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(nc, b); err != nil {
		return nil
	}
	return b
}

// answer returns a response to a request, with the given body.
func answer(request, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	return append(append(b, request[4:8]...), body...)
}

func emptyFetch() *FetchRequest {
	var f FetchRequest
	f.Begin(12, "klink", FetchParams{SessionEpoch: -1}, 0)
	f.Forget(0)
	f.End()
	return &f
}

// TestHostileAnswers: a response that a broker must not send is an error, before memory is taken
// for it.
func TestHostileAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		head []byte // size and correlation id
		want string
	}{
		{"negative size", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2}, "malformed"},
		{"a size without room for the correlation id", []byte{0, 0, 0, 3, 0, 0, 0, 2}, "malformed"},
		{"huge", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 2}, "malformed"},
		{"the answer to another request", []byte{0, 0, 0, 8, 0, 0, 0, 1}, "answered request 1"},
		{"cut off", []byte{0, 0, 0}, "closed the connection"},
		{"nothing", nil, "closed the connection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connect(t, script(t, func(nc net.Conn) {
				readRequest(nc)
				_, _ = nc.Write(c.head)
			}))
			require.NoError(t, conn.Send(t.Context(), emptyFetch(), time.Second))
			_, err := conn.Receive()
			require.ErrorContains(t, err, c.want)
		})
	}
	t.Run("a body that does not come", func(t *testing.T) {
		conn := connect(t, script(t, func(nc net.Conn) {
			_, _ = nc.Write(answer(readRequest(nc), make([]byte, 1<<20))[:1000])
		}))
		require.NoError(t, conn.Send(t.Context(), emptyFetch(), time.Second))
		size, err := conn.Receive()
		require.NoError(t, err)
		require.Equal(t, 1<<20, size)
		require.ErrorContains(t, conn.Read(make([]byte, size)), "closed the connection")
	})
	t.Run("no answer", func(t *testing.T) {
		conn := connect(t, script(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }), kgo.RequestTimeoutOverhead(200*time.Millisecond))
		require.NoError(t, conn.Send(t.Context(), emptyFetch(), 100*time.Millisecond))
		_, err := conn.Receive()
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
	})
}

// piped is a connection within a bubble of synctest, to a broker that does what the test says.
func piped(t *testing.T, overhead time.Duration, then func(nc net.Conn)) *Conn {
	ours, theirs := net.Pipe()
	c := newConn(&Dialer{overhead: overhead}, ours, "a broker in the bubble")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		then(theirs)
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended // time in the bubble passes only while its test waits
	})
	return c
}

// TestSlowBodyIsNotATimeout: as long as bytes come, a response may take longer than a request may.
func TestSlowBodyIsNotATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const overhead = 300 * time.Millisecond
		conn := piped(t, overhead, func(nc net.Conn) {
			for _, one := range answer(readRequest(nc), make([]byte, 20)) {
				time.Sleep(overhead * 9 / 10)
				_, _ = nc.Write([]byte{one})
			}
		})
		require.NoError(t, conn.Send(t.Context(), emptyFetch(), 8*overhead)) // for the header
		size, err := conn.Receive()
		require.NoError(t, err)
		conn.complete = time.Now().Add(time.Hour) // the pace is another test's
		require.NoError(t, conn.Read(make([]byte, size)))
	})
}

// TestDrippingBodyEnds: a broker that sends a byte now and then does not hold up the caller, with
// the memory that the caller has reserved, for ever.
func TestDrippingBodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := piped(t, 100*time.Millisecond, func(nc net.Conn) {
			for _, one := range answer(readRequest(nc), make([]byte, 100_000)) {
				if _, err := nc.Write([]byte{one}); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // 500 s for all of it
			}
		})
		require.NoError(t, conn.Send(t.Context(), emptyFetch(), 0))
		size, err := conn.Receive()
		require.NoError(t, err)
		err = conn.Read(make([]byte, size))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, err, "less than 65536 bytes a second")
	})
}

// TestHostileControl: no response of a broker to ApiVersions or a login takes much time or memory.
func TestHostileControl(t *testing.T) {
	bomb := binary.AppendUvarint(nil, 1<<32-1)
	versions := func(r []byte) bool { return binary.BigEndian.Uint16(r) == 18 }
	for name, body := range map[string]func(request []byte) []byte{
		"four billion tags, of versions": func(r []byte) []byte {
			if !versions(r) {
				return nil
			}
			return append([]byte{0, 0, 1, 0, 0, 0, 0}, bomb...)
		},
		"four billion tags in a known tag, of versions": func(r []byte) []byte {
			if !versions(r) {
				return nil
			}
			tag := append([]byte{2, 2, 'f', 0, 0, 0, 0}, bomb...)
			return append([]byte{0, 0, 1, 0, 0, 0, 0, 1, 0, byte(len(tag))}, tag...)
		},
		"a million versions in as many bytes": func(r []byte) []byte {
			if !versions(r) {
				return nil
			}
			return append(append([]byte{0, 0}, binary.AppendUvarint(nil, 1<<20-100)...), make([]byte, 1<<20-100)...)
		},
		"a million mechanisms in as many bytes": func(r []byte) []byte {
			if versions(r) {
				return nil
			}
			return append([]byte{0, 33, 0, 0x0f, 0xff, 0}, make([]byte, 0x0fff00)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				for {
					var size [4]byte
					if _, err := io.ReadFull(nc, size[:]); err != nil {
						return
					}
					r := make([]byte, binary.BigEndian.Uint32(size[:]))
					if _, err := io.ReadFull(nc, r); err != nil {
						return
					}
					b := body(r)
					if b == nil { // versions that let it log in
						b = []byte{0, 0, 3, 0, 17, 0, 0, 0, 1, 0, 0, 36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}
					}
					out := binary.BigEndian.AppendUint32(nil, uint32(len(b)+4))
					if _, err := nc.Write(append(append(out, r[4:8]...), b...)); err != nil {
						return
					}
				}
			}()
			cl, err := kgo.NewClient(kgo.SeedBrokers(ln.Addr().String()), kgo.SASL(plain.Auth{User: "u", Pass: "p"}.AsMechanism()))
			require.NoError(t, err)
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = DialerOf(cl).Connect(ctx, ln.Addr().String())
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrMalformed)
			require.NoError(t, ctx.Err())
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(12<<20))
		})
	}
}

// TestIdleConnection: a connection is not used if the broker has closed it, or has sent bytes on it
// that nobody asked for.
func TestIdleConnection(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"closed":  func(nc net.Conn) { nc.Close() },
		"reset":   func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); nc.Close() },
		"talking": func(nc net.Conn) { _, _ = nc.Write([]byte{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			conn := connect(t, script(t, func(nc net.Conn) {
				then(nc)
				close(done)
				<-t.Context().Done()
			}))
			<-done
			conn.used = conn.used.Add(-2 * idleCheck)
			err := conn.Send(t.Context(), emptyFetch(), time.Second)
			var unsent *UnsentError
			require.ErrorAs(t, err, &unsent)
		})
	}
}

// TestContextEndsTheConnection: a context that ends also ends the wait for a response.
func TestContextEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := piped(t, time.Second, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, conn.Send(ctx, emptyFetch(), time.Minute))
		go func() {
			synctest.Wait() // for Receive to wait
			cancel()
		}()
		began := time.Now()
		_, err := conn.Receive()
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, time.Since(began), "on the clock of the test: not when the request's time is over")
		var unsent *UnsentError
		require.ErrorAs(t, conn.Send(ctx, emptyFetch(), time.Minute), &unsent)
	})
}

// TestThrottle: a client that was told to wait does so, or until its context ends.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := piped(t, time.Second, func(nc net.Conn) {
			for r := readRequest(nc); r != nil; r = readRequest(nc) {
				_, _ = nc.Write(answer(r, nil))
			}
		})
		conn.Throttle(150)
		began := time.Now()
		exchange(t, conn, emptyFetch())
		require.Equal(t, 150*time.Millisecond, time.Since(began), "on the clock of the test")
		conn.Throttle(60_000)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var unsent *UnsentError
		require.ErrorAs(t, conn.Send(ctx, emptyFetch(), time.Second), &unsent)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

// TestUnreachable: a broker that is not there.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln.Close()
	_, err = DialerOf(kafkatest.NewClient(t, kgo.SeedBrokers(ln.Addr().String()))).Connect(t.Context(), ln.Addr().String())
	var unsent *UnsentError
	require.ErrorAs(t, err, &unsent)
}

// TestNoCommonVersion: the error names both sides.
func TestNoCommonVersion(t *testing.T) {
	conn := connect(t, script(t, func(net.Conn) {}), kgo.MaxVersions(kversion.V0_10_0()))
	_, err := conn.ProduceVersion(true)
	require.ErrorIs(t, err, kerr.UnsupportedVersion)
	require.True(t, strings.Contains(err.Error(), "Produce v0 to v9"), "%v", err)
	v, err := conn.FetchVersion(false)
	require.NoError(t, err)
	require.Equal(t, int16(2), v)
}

// TestOldVersionsAnswer: a broker before KIP-511 answers ApiVersions v3 in v0, and is asked again.
func TestOldVersionsAnswer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		header := readRequest(nc)
		_, _ = nc.Write(answer(header, []byte{0, 35, 0, 0, 0, 0}))
		header = readRequest(nc)
		_, _ = nc.Write(answer(header, []byte{0, 0, 0, 0, 0, 1, 0, 1, 0, 4, 0, 11}))
		readRequest(nc)
	}()
	conn := connect(t, ln.Addr().String())
	v, err := conn.FetchVersion(true)
	require.NoError(t, err)
	require.Equal(t, int16(11), v)
}
