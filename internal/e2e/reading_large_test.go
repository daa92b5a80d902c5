package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// large asks for 100 MiB of a mirror in one response, and stops reading in the middle of it. klink,
// which translates the response, does not hold it meanwhile.
func (r *reading) large(t *testing.T) {
	const mib, count = 1 << 20, 120
	r.createSource(t, "large", 1)
	transact(r.ctx, t, r.source, "large", "large", 1, 2, 2) // shifts
	cl := r.source.Client(t, kgo.DefaultProduceTopic("large"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := bytes.Repeat([]byte("0123456789abcdef"), 900<<10/16)
	for range count {
		cl.Produce(r.ctx, &kgo.Record{Value: value}, nil)
	}
	if err := cl.Flush(r.ctx); err != nil {
		t.Fatal(err)
	}
	awaitMarkers(r.ctx, t, r.adm, "large")
	r.k.MustCLI(t, "topic", "create", "large", "--link", "west", "--replication-factor", "1")
	awaitMirror(t, r.k, r.source, "large")
	s := dialServers(r.ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(r.k.Bootstrap())), "large")
	leader := s.leader("large", 0)

	before := r.k.RSS(t)
	leader.send(fetchRequest(s, "large", 0, 0), slices.Max(leader.versions(kmsg.Fetch)))
	var size [4]byte
	if _, err := io.ReadFull(leader.conn, size[:]); err != nil {
		t.Fatal(err)
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n < 100*mib {
		t.Fatalf("the broker answers with %d bytes: this is no test", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(leader.conn, frame[:n/2]); err != nil {
		t.Fatal(err)
	}
	// Long enough for a proxy that does not hold back to take all of it in.
	peak := int64(0)
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		peak = max(peak, r.k.RSS(t))
	}
	if grown := peak - before; grown >= 32*mib {
		t.Errorf("a response of %d MiB costs klink %d MiB", n/mib, grown/mib)
	}
	if _, err := io.ReadFull(leader.conn, frame[n/2:]); err != nil {
		t.Fatal(err)
	}
	var resp kmsg.FetchResponse
	resp.SetVersion(slices.Max(leader.versions(kmsg.Fetch)))
	if err := resp.ReadFrom(frame[5:]); err != nil {
		t.Fatal(err)
	}
	got, next := records("large", one(t, "a large response", &resp), 0)
	want := readCommitted(t, r.source.Bootstrap(), "large")
	assertSame(t, "large", want, got)
	if end := atoi(listOffsets(r.ctx, t, r.source.Client(t), "large", 1, -1)); next != end {
		t.Errorf("a client reads on at %d, want %d", next, end)
	}
}
