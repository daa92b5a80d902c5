package wire

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"klink/protocol/batch"
)

// TestRecordBatch: batches have the size that was asked for, to the byte, and are what a broker
// takes.
func TestRecordBatch(t *testing.T) {
	for size := 200; size < 200+3000; size++ {
		b := RecordBatch(size, 1)
		require.Len(t, b, size)
		require.NoError(t, batch.Check(b), size)
	}
	for _, size := range []int{16 << 10, 64 << 10, 1 << 20} {
		b := RecordBatch(size, 7)
		require.Len(t, b, size)
		require.NoError(t, batch.Check(b))
		require.True(t, batch.VerifyCRC(b))
		require.EqualValues(t, size>>10, RecordsOf(b))
	}
	require.NotEqual(t, RecordBatch(1000, 1)[100:200], RecordBatch(1000, 2)[100:200])
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
	b := RecordBatch(4000, 1)
	p, err := NewProducer(t.Context(), addr, nil, "t", 1, b)
	require.NoError(t, err)
	defer p.Close()
	for range 20 {
		n, err := p.Once()
		require.NoError(t, err)
		require.EqualValues(t, len(b), n)
	}
	end, err := End(t.Context(), addr, "t", 1)
	require.NoError(t, err)
	require.Equal(t, 20*RecordsOf(b), end)
	require.Equal(t, p.next, end)

	f, err := NewFetcher(t.Context(), addr, nil, "t", 1, len(b), 0, end, 5*RecordsOf(b))
	require.NoError(t, err)
	defer f.Close()
	var total int64
	for total < int64(50*len(b)) {
		n, err := f.Once()
		require.NoError(t, err)
		total += n
	}
	require.Equal(t, int(total)/len(b), f.batches)
}

// TestPipelined: requests that are sent without a pause are answered in order, and appended, and a
// refusal names its partition.
func TestPipelined(t *testing.T) {
	addr := embedded(t, 2)
	leaders, n, err := Leaders(t.Context(), addr, "t")
	require.NoError(t, err)
	require.Equal(t, []Leader{{addr, []int32{0, 1}}}, leaders)
	require.Equal(t, 2, n)
	c, err := Dial(t.Context(), addr+",127.0.0.1:1", nil)
	require.NoError(t, err)
	defer c.Close()
	b := RecordBatch(4000, 1)
	for range 5 {
		require.NoError(t, c.SendProduce("t", []Part{{0, b}, {1, b}}))
	}
	for range 5 {
		require.NoError(t, c.ReceiveProduce("t", 2))
	}
	ends := []int64{-1, -1, -1}
	require.NoError(t, c.Ends("t", []int32{0, 1, 2}, ends))
	require.Equal(t, []int64{5 * RecordsOf(b), 5 * RecordsOf(b), -1}, ends, "what is not known stays")

	require.NoError(t, c.SendProduce("t", []Part{{2, b}}))
	require.ErrorContains(t, c.ReceiveProduce("t", 1), "produce to t-2: UNKNOWN_TOPIC_OR_PARTITION")
	require.NoError(t, c.SendProduce("t", []Part{{0, b}}))
	require.ErrorContains(t, c.ReceiveProduce("t", 2), "1 results for 2 batches")
	_, _, err = c.Leaders("nowhere")
	require.ErrorContains(t, err, "topic nowhere: UNKNOWN_TOPIC_OR_PARTITION")
}

// TestAnswersAreChecked: errors, and answers that do not fit the question, are no measurement.
func TestAnswersAreChecked(t *testing.T) {
	addr := embedded(t, 1)
	p, err := NewProducer(t.Context(), addr, nil, "nowhere", 0, RecordBatch(500, 1))
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Once()
	require.ErrorContains(t, err, "produce to nowhere-0: UNKNOWN_TOPIC_OR_PARTITION")
	if p, err = NewProducer(t.Context(), addr, nil, "t", 0, RecordBatch(500, 1)); err == nil {
		defer p.Close()
		_, err = p.Once()
		require.NoError(t, err)
		p.next = 100
		_, err = p.Once()
	}
	require.ErrorContains(t, err, "offset 1 was given out before")

	f, err := NewFetcher(t.Context(), addr, nil, "t", 0, 500, 50, 60, 50)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Once()
	require.ErrorContains(t, err, "OFFSET_OUT_OF_RANGE")
	f.next, f.start, f.end = 0, 0, 60
	_, err = f.Once()
	require.ErrorContains(t, err, "the high watermark is 2, and the partition ends at 60")
}

// TestFetchedBatchesAreChecked: a gap, a repetition, a damaged or an impossible batch fails a run.
func TestFetchedBatchesAreChecked(t *testing.T) {
	at := func(base int64) []byte {
		b := RecordBatch(3000, 1) // of 3 records
		require.EqualValues(t, 3, RecordsOf(b))
		binary.BigEndian.PutUint64(b, uint64(base))
		return b
	}
	join := func(batches ...[]byte) (all []byte) {
		for _, b := range batches {
			all = append(all, b...)
		}
		return all
	}
	f := &Fetcher{next: 10}
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
		f := &Fetcher{next: 15}
		_, err := f.walk(records)
		require.ErrorContains(t, err, problem)
	}
	small := at(15)
	binary.BigEndian.PutUint32(small[atBatchLength:], 3)
	_, err = (&Fetcher{next: 15}).walk(small)
	require.ErrorContains(t, err, "a batch of 15 bytes")
}

// TestWrongFramesAreRefused: an answer to something else, a size that cannot be, and bytes too
// many.
func TestWrongFramesAreRefused(t *testing.T) {
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
		c := &Conn{conn: ours, sent: 1}
		_, _, err := c.receive(make([]byte, 64), 64)
		require.ErrorContains(t, err, problem)
		_ = ours.Close()
	}
}
