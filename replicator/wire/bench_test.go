package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BenchmarkFetchParse walks through a response of 200 partitions with one small batch each.
func BenchmarkFetchParse(b *testing.B) {
	for _, version := range []int16{11, 13} {
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = version
		t := kmsg.NewFetchResponseTopic()
		t.Topic = "orders"
		for p := range int32(200) {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.RecordBatches = p, makeBatch(1200)
			t.Partitions = append(t.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, t)
		raw := body(resp)
		b.Run(fmt.Sprintf("v%d", version), func(b *testing.B) {
			var f FetchResponse
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				for f.Reset(version, raw); f.Next(); {
					n++
				}
				if f.Err() != nil {
					b.Fatal(f.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/partition")
		})
		b.Run(fmt.Sprintf("v%d/kmsg", version), func(b *testing.B) {
			from := raw
			if resp.IsFlexible() {
				from = raw[1:]
			}
			b.ReportAllocs()
			for b.Loop() {
				r := kmsg.NewPtrFetchResponse()
				r.Version = version
				if err := r.ReadFrom(from); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(200*b.N), "ns/partition")
		})
	}
}

func buildFetch(f *FetchRequest, partitions int) {
	f.Begin(13, "klink", FetchParams{MaxWaitMillis: 500, MinBytes: 1, MaxBytes: 16 << 20, SessionEpoch: -1}, 1)
	id := [16]byte{1}
	f.Topic("orders", &id, partitions)
	for p := range partitions {
		f.Partition(int32(p), 3, 1<<30, 1<<20)
	}
	f.Forget(0)
	f.End()
}

func BenchmarkFetchBuild(b *testing.B) {
	var f FetchRequest
	b.ReportAllocs()
	for b.Loop() {
		buildFetch(&f, 200)
		f.sealed().seal(1)
		f.sealed().done()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(200*b.N), "ns/partition")
}

func buildProduce(p *ProduceRequest, batch []byte, partitions int) {
	p.Begin(13, "klink", -1, 10_000, 1)
	id := [16]byte{1}
	p.Topic("orders", &id, partitions)
	for n := range partitions {
		p.Partition(int32(n), batch)
	}
	p.End()
}

// BenchmarkProduceBuild builds a request of 200 batches, whose bytes are copied or referred to. It
// also shows the cost of a write, to a connection that takes all of it.
func BenchmarkProduceBuild(b *testing.B) {
	for _, size := range []int{300, 1000, 1200, 4 << 10, 16 << 10} {
		batch := makeBatch(size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var p ProduceRequest
			b.ReportAllocs()
			for b.Loop() {
				buildProduce(&p, batch, 200)
				p.sealed().seal(1)
				p.sealed().done()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(200*b.N), "ns/batch")
		})
		b.Run(fmt.Sprint(size, "/written"), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer ln.Close()
			go func() {
				nc, err := ln.Accept()
				if err == nil {
					_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, nc, make([]byte, 1<<20))
				}
			}()
			nc, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(b, err)
			defer nc.Close()
			c := newConn(&Dialer{overhead: time.Minute}, nc, "")
			var p ProduceRequest
			b.ReportAllocs()
			for b.Loop() {
				buildProduce(&p, batch, 200)
				p.sealed().seal(1)
				if _, err := c.write(p.sealed()); err != nil {
					b.Fatal(err)
				}
				p.sealed().done()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(200*b.N), "ns/batch")
		})
	}
}

// TestNothingIsAllocated: to build, write and read requests, and to parse responses, allocates
// nothing.
func TestNothingIsAllocated(t *testing.T) {
	small, large := makeBatch(300), makeBatch(5000)
	fetched := kmsg.NewPtrFetchResponse()
	fetched.Version = 13
	topic := kmsg.NewFetchResponseTopic()
	for p := range int32(50) {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.RecordBatches = p, large
		rp.AbortedTransactions = append(rp.AbortedTransactions, kmsg.NewFetchResponseTopicPartitionAbortedTransaction())
		topic.Partitions = append(topic.Partitions, rp)
	}
	fetched.Topics = append(fetched.Topics, topic)
	raw := body(fetched)
	conn := connect(t, script(t, func(nc net.Conn) {
		response, request := answer(make([]byte, 8), raw), make([]byte, 1<<20)
		for { // without allocations
			if _, err := io.ReadFull(nc, request[:12]); err != nil {
				return
			}
			if _, err := io.ReadFull(nc, request[12:4+binary.BigEndian.Uint32(request)]); err != nil {
				return
			}
			copy(response[4:], request[8:12])
			if _, err := nc.Write(response); err != nil {
				return
			}
		}
	}))
	var f FetchRequest
	var p ProduceRequest
	var r FetchResponse
	mem := make([]byte, len(raw))
	ctx := t.Context()
	run := func() {
		buildProduce(&p, small, 50)
		if err := conn.Send(ctx, &p, time.Second); err != nil {
			t.Fatal(err)
		}
		if size, err := conn.Receive(); err != nil || conn.Read(mem[:size]) != nil {
			t.Fatal(err)
		}
		buildProduce(&p, large, 50)
		p.sealed().seal(1)
		p.sealed().done()
		buildFetch(&f, 50)
		if err := conn.Send(ctx, &f, time.Second); err != nil {
			t.Fatal(err)
		}
		size, err := conn.Receive()
		if err != nil || conn.Read(mem[:size]) != nil {
			t.Fatal(err)
		}
		for r.Reset(13, mem[:size]); r.Next(); {
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	run()
	if n := testing.AllocsPerRun(500, run); n > 0 {
		t.Errorf("%v allocations for two requests", n)
	}
}
