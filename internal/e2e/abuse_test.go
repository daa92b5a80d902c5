package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAStalledReaderIsCheap asks for 300 MiB in one fetch and reads none of it: klink must not hold
// it in memory. Then the reader wakes up and gets every byte.
func TestAStalledReaderIsCheap(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	destination := kafkatest.Start(t, kafkatest.Heap("1g"),
		kafkatest.Config("fetch.max.bytes", "500000000"), kafkatest.Config("message.max.bytes", "20000000"))
	ctx := context.Background()
	cl := destination.Client(t, kgo.DefaultProduceTopic("big"), kgo.ProducerBatchMaxBytes(16*mib), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "big"); err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("0123456789abcdef"), mib/16)
	for range 310 {
		cl.Produce(ctx, &kgo.Record{Value: value}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	conn, err := net.Dial("tcp", k.BrokerAddr(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := k.RSS(t)
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(11)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 1000, 1, 300*mib
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "big"
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = 300*mib, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("stalled")).AppendRequest(nil, req, 1)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n < 290*mib {
		t.Fatalf("the broker answers with %d bytes: this is no test", n)
	}
	// Long enough for a proxy that does not hold back to take all of it in: it moves 300 MiB in
	// well under a second.
	peak := int64(0)
	for range 40 {
		time.Sleep(100 * time.Millisecond)
		peak = max(peak, k.RSS(t))
	}
	if grown := peak - before; grown >= 32*mib {
		t.Errorf("a stalled reader of %d MiB costs klink %d MiB", n/mib, grown/mib)
	} else {
		t.Logf("a stalled reader of %d MiB costs klink %d KiB", n/mib, grown/1024)
	}
	if got, err := io.Copy(io.Discard, io.LimitReader(conn, n)); err != nil || got != n {
		t.Fatalf("after the stall %d of %d bytes arrived: %v", got, n, err)
	}
}

// TestGarbageHarmsNobody sends what no client sends, while a well-behaved client works on.
func TestGarbageHarmsNobody(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Start(t)
	k := StartKlink(t, destination)
	k.MustCLI(t, "topic", "create", "plain")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.DefaultProduceTopic("plain"))
	rnd := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 64<<10)
	for i := range random {
		random[i] = byte(rnd.Uint32())
	}
	valid := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 7)
	frame := func(payload []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
	}
	produceHeader := []byte{0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff}
	for name, b := range map[string]struct {
		send []byte
		open bool // the connection may stay open: klink waits for the rest
	}{
		"random bytes":            {send: random},
		"a negative length":       {send: []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		"a length of 2 GiB":       {send: []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0, 0, 0, 0, 1}},
		"a length over the limit": {send: binary.BigEndian.AppendUint32(nil, 100<<20+1)},
		"an empty frame":          {send: []byte{0, 0, 0, 0}},
		"an unknown API key":      {send: frame([]byte{0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff})},
		"an inter-broker API":     {send: frame([]byte{0, 4, 0, 0, 0, 0, 0, 1, 0xff, 0xff})},
		"a random produce body":   {send: frame(append(produceHeader, random[:1000]...))},
		"an HTTP request":         {send: []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		"a TLS hello":             {send: append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, random[:500]...)},
		"half a frame":            {send: valid[:len(valid)/2], open: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", k.Bootstrap())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(b.send); err != nil && b.open {
				t.Fatal(err)
			}
			if !b.open {
				conn.SetReadDeadline(time.Now().Add(30 * time.Second))
				if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
					t.Errorf("the connection was not closed: %d bytes, %v", n, err)
				}
			}
			if err := cl.ProduceSync(ctx, kgo.StringRecord("still here")).FirstErr(); err != nil {
				t.Errorf("another client is disturbed: %v", err)
			}
		})
	}
	k.MustRun(t)
}

// TestTwoThousandIdleConnections holds them, counts what they cost, and serves another client
// meanwhile.
func TestTwoThousandIdleConnections(t *testing.T) {
	t.Parallel()
	const n = 2000
	destination := kafkatest.Start(t)
	k := StartKlink(t, destination)
	before := k.RSS(t)
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 7)
	answered := func(c net.Conn) error {
		if _, err := c.Write(request); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
		return err
	}
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", k.Bootstrap())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		if err := answered(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns[i] = c
	}
	k.MustCLI(t, "topic", "create", "plain")
	cost := (k.RSS(t) - before) / n
	t.Logf("an idle connection that was used once costs klink %d bytes", cost)
	if cost > 32<<10 {
		t.Errorf("an idle connection costs %d bytes", cost)
	}
	for i, c := range conns {
		if err := answered(c); err != nil {
			t.Fatalf("connection %d after its rest: %v", i, err)
		}
	}
}

// TestReadOnly refuses writes to a mirror for each partition by itself, in every way a client can
// write.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 2, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	produceVaried(ctx, t, source, "orders", 0, 20)
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", "orders", "--link", "east")
	k.MustCLI(t, "topic", "create", "plain")
	awaitMirror(t, k, source, "orders")
	const refusal = "Cannot append records to read-only mirror topic 'orders'"
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.MaxVersions(nil))
	adm := kadm.NewClient(cl)
	meta, err := adm.Metadata(ctx, "orders", "plain")
	if err != nil {
		t.Fatal(err)
	}
	for version := int16(3); version <= 13; version++ {
		t.Run(fmt.Sprintf("produce v%d", version), func(t *testing.T) {
			got := produceRaw(ctx, t, k, meta, version, "orders", "plain")
			if got["orders"].code != 42 || got["plain"].code != 0 {
				t.Errorf("got %+v", got)
			}
			if version >= 8 && got["orders"].message != refusal {
				t.Errorf("the message is %q", got["orders"].message)
			}
		})
	}
	t.Run("acks=0 closes the connection", func(t *testing.T) {
		conn, err := net.Dial("tcp", k.BrokerAddr(t, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req := produceRequest(meta, 7, "orders")
		req.Acks = 0
		if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
	t.Run("CreatePartitions", func(t *testing.T) {
		rs, err := adm.UpdatePartitions(ctx, 5, "orders")
		if err != nil || rs["orders"].Err == nil || !strings.Contains(rs["orders"].ErrMessage+rs["orders"].Err.Error(), "INVALID_REQUEST") {
			t.Errorf("got %+v, %v", rs, err)
		}
	})
	t.Run("DeleteRecords", func(t *testing.T) {
		o := kadm.Offsets{}
		o.AddOffset("orders", 0, 10, -1)
		rs, err := adm.DeleteRecords(ctx, o)
		if r, ok := rs.Lookup("orders", 0); err != nil || !ok || r.Err == nil || !strings.Contains(r.Err.Error(), "INVALID_REQUEST") {
			t.Errorf("got %+v, %v", rs, err)
		}
	})
	t.Run("a transaction", func(t *testing.T) {
		tx := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("orders"))
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err == nil {
			t.Error("a transactional produce was accepted")
		}
		_ = tx.EndTransaction(ctx, kgo.TryAbort)
	})
	t.Run("klink's own topics", func(t *testing.T) {
		ts, err := adm.ListTopics(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ts.Has("_klink_state") {
			t.Fatalf("no _klink_state in %v", ts.Names())
		}
		p := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.DefaultProduceTopic("_klink_state"))
		if err := p.ProduceSync(ctx, kgo.KeyStringRecord("link/x", "x")).FirstErr(); err == nil || !strings.Contains(err.Error(), "TOPIC_AUTHORIZATION_FAILED") {
			t.Errorf("got %v", err)
		}
	})
	// Nothing of all that reached the log: it still equals the source's.
	assertSame(t, "mirror", readFranz(t, source.Bootstrap(), "orders", 0), readFranz(t, k.Bootstrap(), "orders", 0))
	ends := listOffsets(ctx, t, cl, "orders", 2, -1)
	if ends != "20 0" {
		t.Errorf("the mirror ends at %s", ends)
	}
	t.Run("DeleteTopics ends the mirror", func(t *testing.T) {
		k.MustCLI(t, "topic", "delete", "orders")
		if _, err := describeMirror(t, k, "orders"); err == nil {
			t.Error("the mirror is still there")
		}
		k.MustCLI(t, "topic", "create", "orders")
		out, _, code := k.CLI(t, "topic", "describe", "orders")
		if code != 0 {
			t.Fatal(out)
		}
		if err := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.DefaultProduceTopic("orders")).ProduceSync(ctx, kgo.StringRecord("mine")).FirstErr(); err != nil {
			t.Errorf("the ordinary topic of the same name: %v", err)
		}
		if got := listOffsets(ctx, t, cl, "orders", 1, -1); got != "1" {
			t.Errorf("the ordinary topic ends at %s", got)
		}
	})
}

type produceResult struct {
	code    int16
	message string
	offset  int64
}

func produceRequest(meta kadm.Metadata, version int16, topics ...string) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	req.Acks, req.TimeoutMillis = -1, 10_000
	for _, topic := range topics {
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic, rt.TopicID = topic, meta.Topics[topic].ID
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Records = oneRecordBatch("value")
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// produceRaw sends one request of exactly this version, with partition 0 of each topic, on a
// connection of its own.
func produceRaw(ctx context.Context, t testing.TB, k *Klink, meta kadm.Metadata, version int16, topics ...string) map[string]produceResult {
	t.Helper()
	conn, err := net.Dial("tcp", k.BrokerAddr(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	req := produceRequest(meta, version, topics...)
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	b = b[4:]
	if req.IsFlexible() {
		b = b[1:]
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	if err := resp.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	out := map[string]produceResult{}
	for _, rt := range resp.Topics {
		name := rt.Topic
		for _, topic := range topics {
			if version >= 13 && meta.Topics[topic].ID == rt.TopicID {
				name = topic
			}
		}
		for _, rp := range rt.Partitions {
			r := produceResult{code: rp.ErrorCode, offset: rp.BaseOffset}
			if rp.ErrorMessage != nil {
				r.message = *rp.ErrorMessage
			}
			out[name] = r
		}
	}
	return out
}
