package bench

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"klink/protocol/batch"
)

// TestRecordBatch: batches have the size that was asked for, to the byte, and are what a broker
// takes.
func TestRecordBatch(t *testing.T) {
	for size := 200; size < 200+3000; size++ {
		b := recordBatch(size, 1)
		require.Len(t, b, size)
		require.NoError(t, batch.Check(b), size)
	}
	for _, size := range []int{16 << 10, 64 << 10, 1 << 20} {
		b := recordBatch(size, 7)
		require.Len(t, b, size)
		require.NoError(t, batch.Check(b))
		require.True(t, batch.VerifyCRC(b))
		require.EqualValues(t, size>>10, recordsOf(b))
	}
	require.NotEqual(t, recordBatch(1000, 1)[100:200], recordBatch(1000, 2)[100:200])
}

// embedded is a cluster inside the process with one topic.
func embedded(t *testing.T, partitions int32) string {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// TestProduceAndFetch: produced batches are fetched again, in order and without a gap, from any
// offset and repeatedly.
func TestProduceAndFetch(t *testing.T) {
	addr := embedded(t, 2)
	b := recordBatch(4000, 1)
	p, err := newProducer(t.Context(), addr, nil, "t", 1, b)
	require.NoError(t, err)
	defer p.close()
	for range 20 {
		n, err := p.once()
		require.NoError(t, err)
		require.EqualValues(t, len(b), n)
	}
	end, err := endOffset(t.Context(), addr, "t", 1)
	require.NoError(t, err)
	require.Equal(t, 20*recordsOf(b), end)
	require.Equal(t, p.next, end)

	f, err := newFetcher(t.Context(), addr, nil, "t", 1, len(b), 0, end, 5*recordsOf(b))
	require.NoError(t, err)
	defer f.close()
	var total int64
	for total < int64(50*len(b)) {
		n, err := f.once()
		require.NoError(t, err)
		total += n
	}
	require.Equal(t, int(total)/len(b), f.batches)
}

// TestAnswersAreChecked: errors, and answers that do not fit the question, are no measurement.
func TestAnswersAreChecked(t *testing.T) {
	addr := embedded(t, 1)
	p, err := newProducer(t.Context(), addr, nil, "nowhere", 0, recordBatch(500, 1))
	require.NoError(t, err)
	defer p.close()
	_, err = p.once()
	require.ErrorContains(t, err, "produce to nowhere-0: UNKNOWN_TOPIC_OR_PARTITION")
	if p, err = newProducer(t.Context(), addr, nil, "t", 0, recordBatch(500, 1)); err == nil {
		defer p.close()
		_, err = p.once()
		require.NoError(t, err)
		p.next = 100
		_, err = p.once()
	}
	require.ErrorContains(t, err, "offset 1 was given out before")

	f, err := newFetcher(t.Context(), addr, nil, "t", 0, 500, 50, 60, 50)
	require.NoError(t, err)
	defer f.close()
	_, err = f.once()
	require.ErrorContains(t, err, "OFFSET_OUT_OF_RANGE")
	f.next, f.start, f.end = 0, 0, 60
	_, err = f.once()
	require.ErrorContains(t, err, "the high watermark is 2, and the partition ends at 60")
}

// TestFetchedBatchesAreChecked: a gap, a repetition, a damaged or an impossible batch fails a run.
func TestFetchedBatchesAreChecked(t *testing.T) {
	at := func(base int64) []byte {
		b := recordBatch(3000, 1) // of 3 records
		require.EqualValues(t, 3, recordsOf(b))
		binary.BigEndian.PutUint64(b, uint64(base))
		return b
	}
	join := func(batches ...[]byte) (all []byte) {
		for _, b := range batches {
			all = append(all, b...)
		}
		return all
	}
	f := &fetcher{next: 10}
	n, err := f.walk(join(at(9), at(12), at(15)[:100])) // the first begins before, the last is cut short
	require.NoError(t, err)
	require.EqualValues(t, 6000, n)
	require.EqualValues(t, 15, f.next)
	for problem, records := range map[string][]byte{
		"a batch of offsets 16 to 18 where 15 is next": join(at(16)),
		"a batch of offsets 12 to 14 where 15 is next": join(at(12)),
		"a batch of offsets 15 to 17 where 18 is next": join(at(15), at(15)),
		"no batch in the response":                     at(15)[:200],
		"its CRC is wrong":                             join(append(at(15)[:2999:2999], 1)),
	} {
		f := &fetcher{next: 15}
		_, err := f.walk(records)
		require.ErrorContains(t, err, problem)
	}
	small := at(15)
	binary.BigEndian.PutUint32(small[atBatchLength:], 3)
	_, err = (&fetcher{next: 15}).walk(small)
	require.ErrorContains(t, err, "a batch of 15 bytes")
}

// TestWireRefusesWrongFrames: an answer to something else, a size that cannot be, and bytes too
// many.
func TestWireRefusesWrongFrames(t *testing.T) {
	for problem, answer := range map[string][]byte{
		"is to request 9, not to 1": {0, 0, 0, 4, 0, 0, 0, 9},
		"a response of -1 bytes":    {255, 255, 255, 255, 0, 0, 0, 1},
		"1 bytes more than":         {0, 0, 0, 4, 0, 0, 0, 1, 0},
		"EOF":                       {0, 0, 0, 9, 0, 0, 0, 1, 0},
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(answer)
			_ = theirs.Close()
		}()
		w := &wire{conn: ours, corr: 1}
		_, err := w.receive()
		require.ErrorContains(t, err, problem)
		_ = ours.Close()
	}
}

func TestRelay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn) // until the client has ended its half
				_ = conn.Close()
			}()
		}
	}()
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := spare.Addr().String()
	require.NoError(t, spare.Close())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Relay(t.Context(), addr, ln.Addr().String(), func() { close(ready) }) }()
	<-ready
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	require.NoError(t, err)
	defer conn.Close()
	sent := recordBatch(300_000, 1)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, sent, got)
	t.Cleanup(func() { require.NoError(t, <-done) })
}
