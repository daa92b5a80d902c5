package e2e

import (
	"context"
	"encoding/binary"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestStrangersStayWithinTheBudget: many connections announce requests of 100 MiB each and send a
// part of them, before a login and where there is none. klink's resident memory stays within
// --request-memory, and a client produces all the time.
func TestStrangersStayWithinTheBudget(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]kafkatest.Option{"no login": nil, "SASL": {kafkatest.SASLPlaintext()}} {
		t.Run(name, func(t *testing.T) {
			const mib = 1 << 20
			const budget = 256
			destination := kafkatest.Start(t, opts...)
			k := StartKlink(t, destination, "--request-memory", strconv.Itoa(budget)+"MiB", "--login-timeout", "5m", "--frame-timeout", "5m")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			kafkatest.CreateTopic(t, destination.Client(t), "honest", 1, 1, nil)
			user := destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword)
			cl := kafkatest.NewClient(t, append(user, kgo.SeedBrokers(k.Bootstrap()), kgo.DefaultProduceTopic("honest"))...)
			produce := func() {
				t.Helper()
				if err := cl.ProduceSync(ctx, kgo.SliceRecord(make([]byte, 100<<10))).FirstErr(); err != nil {
					t.Fatalf("an honest producer is disturbed: %v", err)
				}
			}
			for range 20 {
				produce()
			}
			before := k.RSS(t)
			for _, count := range []int{10, 100, 1000} {
				grown := unfinishedRequests(t, k, count, produce) - before
				t.Logf("%d strangers: resident memory grows by %d MiB", count, grown/mib)
				if grown > budget*mib {
					t.Errorf("%d strangers with unfinished requests of 100 MiB cost klink %d MiB of a budget of %d", count, grown/mib, budget)
				}
			}
			newcomer := kafkatest.NewClient(t, append(user, kgo.SeedBrokers(k.Bootstrap()))...)
			if err := newcomer.Ping(ctx); err != nil {
				t.Errorf("a new client: %v", err)
			}
			k.MustRun(t)
			kafkatest.WaitFor(t, time.Minute, "the memory to be free", func() (bool, string) {
				text := k.Metrics(t)
				return strings.Contains(text, "\nklink_proxy_request_memory_bytes 0\n"), ""
			})
		})
	}
}

// unfinishedRequests holds connections with requests of 100 MiB, each sent as far as klink takes
// it, and at most 40 MiB of it. It returns the largest resident memory of klink while it does.
func unfinishedRequests(t *testing.T, k *Klink, count int, honest func()) (most int64) {
	t.Helper()
	head := binary.BigEndian.AppendUint32(nil, 100<<20)
	head = append(head, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30) // Produce v9
	junk := make([]byte, 256<<10)
	var stuck atomic.Int64
	var strangers sync.WaitGroup
	for range count {
		conn, err := net.Dial("tcp", k.BrokerAddr(t, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}()
		strangers.Go(func() {
			defer stuck.Add(1)
			if _, err := conn.Write(head); err != nil {
				return
			}
			for sent := 0; sent < 40<<20; sent += len(junk) {
				_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
				if _, err := conn.Write(junk); err != nil {
					return
				}
			}
		})
	}
	for stuck.Load() < int64(count) {
		honest()
		most = max(most, k.RSS(t))
	}
	strangers.Wait()
	for range 20 {
		honest()
		most = max(most, k.RSS(t))
		time.Sleep(20 * time.Millisecond)
	}
	return most
}

// TestFloodsOfConnections: who opens connections without end gets no more than is set, and costs
// the brokers none by silence.
func TestFloodsOfConnections(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Start(t, kafkatest.SASLPlaintext())
	k := StartKlink(t, destination, "--max-connections-per-ip", "40", "--login-timeout", "2s")
	user := destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	cl := kafkatest.NewClient(t, append(user, kgo.SeedBrokers(k.Bootstrap()))...)
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, p, _ := strings.Cut(destination.Brokers()[0].Addr(), ":")
	port, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	sockets := func() int { return peerPorts(t, k.PID(t))[port] }
	before := sockets()
	var conns []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", k.Bootstrap())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	kafkatest.WaitFor(t, time.Minute, "connections over the limit to be closed", func() (bool, string) {
		text := k.Metrics(t)
		return strings.Contains(text, `klink_proxy_connections_closed_total{reason="limit"} 1`), text
	})
	if n := sockets() - before; n > 20 {
		t.Errorf("200 silent connections cost the broker %d", n)
	}
	if err := cl.Ping(t.Context()); err != nil {
		t.Errorf("a client that was there: %v", err)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Fatalf("a silent connection stays: %d bytes, %v", n, err)
		}
	}
	newcomer := kafkatest.NewClient(t, append(user, kgo.SeedBrokers(k.Bootstrap()))...)
	if err := newcomer.Ping(t.Context()); err != nil {
		t.Errorf("a new client after the flood: %v", err)
	}
}
