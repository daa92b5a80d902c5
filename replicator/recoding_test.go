package replicator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"
	"testing"

	"klink/protocol/batch"
	"klink/replicator/memory"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// thinned returns a batch as compaction leaves it: n records of a megabyte of zeros each, at every
// second offset. It is small.
func thinned(t *testing.T, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := kmsg.Record{OffsetDelta: int32(2 * i), Value: make([]byte, 1<<20)}
		whole := r.AppendTo(nil)
		r.Length = int32(len(whole) - 1) // less the length field itself
		if _, err := z.Write(r.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 4, LastOffsetDelta: int32(2*n - 2), FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: out.Bytes(),
	}
	rb.Length = int32(49 + out.Len())
	b := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// A batch of a few kilobytes that becomes many megabytes when it is rebuilt counts against the
// budget during that time, one batch at a time. Afterwards nothing is left in the account, whatever
// the result.
func TestRecodingCountsAgainstTheBudget(t *testing.T) {
	const total = 64 << 20
	r := &memory.Recoding{Budget: memory.NewBudget(total)}
	free := r.Budget.Left
	b := thinned(t, 48)
	if len(b) > 64<<10 {
		t.Fatalf("%d bytes: this is no test", len(b))
	}
	var work sync.WaitGroup
	var active int
	var mu sync.Mutex
	enter := func(by int) int { mu.Lock(); defer mu.Unlock(); active += by; return active }
	for range 4 {
		work.Go(func() {
			rec := batch.Recoder{Account: r.Account()}
			runs := 0
			err := rec.Runs(b, 0, func(batch.Header) error {
				if n := enter(1); n > 1 {
					t.Errorf("%d large batches at a time", n)
				}
				if f := free(); f > total-2*48<<20 {
					t.Errorf("%d bytes are free meanwhile", f)
				}
				runs++
				enter(-1)
				return nil
			})
			if err != nil || runs != 48 {
				t.Errorf("%d runs: %v", runs, err)
			}
		})
	}
	work.Wait()
	if f := free(); f != total {
		t.Errorf("%d of %d bytes are free at the end", f, total)
	}
	rec := batch.Recoder{Account: r.Account()}
	if err := rec.Runs(thinned(t, batch.MaxRecodedSize>>20+8), 0, func(batch.Header) error { return nil }); !errors.Is(err, batch.ErrTooLarge) {
		t.Error(err)
	}
	if f := free(); f != total {
		t.Errorf("%d of %d bytes are free after a batch that is too large", f, total)
	}
	refused := errors.New("refused")
	if err := rec.Runs(b, 0, func(batch.Header) error { return refused }); !errors.Is(err, refused) || free() != total {
		t.Errorf("%d bytes are free after %v", free(), err)
	}
	if !r.Turn.TryLock() {
		t.Error("the turn was not given back")
	}
}

// Every fetcher accounts for the batches that it rebuilds.
func TestFetchersAccountForRecoding(t *testing.T) {
	s := &source{r: &Replicator{budget: memory.NewBudget(1 << 20)}}
	s.r.recoding = &memory.Recoding{Budget: s.r.budget}
	if newFetcher(s, 1).tools.Recoder.Account == nil {
		t.Error("a fetcher takes memory that nobody knows of")
	}
}
