package replicator

import (
	"math"
	"testing"

	"klink/protocol/batch"
)

// FuzzFetched: whatever bytes a source answers with, the core does not panic, and what it queues continues its position
// without a gap and is stamped with where it stood.
func FuzzFetched(f *testing.F) {
	two := append(makeBatch(10, 3, 0, 20), makeBatch(13, 2, 0, 20)...)
	f.Add(two, int64(10))
	f.Add(two, int64(13))
	f.Add(two[:len(two)-5], int64(10))
	f.Add(makeBatch(10, 3, 0x10, 20), int64(10)) // transactional
	f.Add(makeBatch(10, 3, 0x20, 20), int64(10)) // control
	f.Add(makeBatch(12, 3, 0, 20), int64(10))    // a hole
	f.Add(makeBatch(8, 5, 0, 20), int64(10))     // straddles the position
	f.Add(makeBatch(-1, 1<<30, 0, 0), int64(0))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, records []byte, at int64) {
		if at < 0 {
			return
		}
		for _, virgin := range []bool{false, true} {
			core := newPartition("t-0", func(item) {})
			e := logEnd{start: 5, end: 5, shift: at - 5, floor: at, fresh: virgin}
			core.resumed(e)
			gen := core.beginFetch()
			core.fetched(gen, fetched{records: append([]byte(nil), records...), highWater: at, logStart: at, epoch: -1}, func(*frame) {})
			next := core.next
			for _, i := range core.queue {
				logical, _, _, ok := batch.ReadStamp(i.bytes)
				if i.base != next || i.records <= 0 || !ok || logical != i.base {
					t.Fatalf("offset %d (%d records, stamp %d) where %d belongs", i.base, i.records, logical, next)
				}
				next = i.end()
			}
			if core.fetchAt < core.next {
				t.Fatalf("would fetch at %d after %d", core.fetchAt, core.next)
			}
		}
	})
}

// FuzzFindLast: whatever bytes a destination answers with, the batch found holds the offset asked for.
func FuzzFindLast(f *testing.F) {
	stamped := makeBatch(40, 3, 0, 20)
	if err := batch.Stamp(stamped, 140, 1); err != nil {
		f.Fatal(err)
	}
	batch.Header(stamped).SetBaseOffset(40)
	f.Add(stamped, int64(42))
	f.Add(append(makeBatch(38, 2, 0, 9), stamped...), int64(42))
	f.Add(stamped[:30], int64(42))
	f.Add(makeBatch(40, 3, 0, 20), int64(41))
	f.Add(append(make([]byte, 16), 1, 0, 0, 0), int64(3)) // message format v1
	f.Fuzz(func(t *testing.T, records []byte, offset int64) {
		if offset < 0 || offset == math.MaxInt64 {
			return
		}
		last, err := findLast(records, offset)
		if (last == nil) == (err == nil) {
			t.Fatal("neither a batch nor an error, or both")
		}
		if last != nil && (offset < last.base || offset >= last.end) {
			t.Fatalf("the batch of offsets %d to %d does not hold %d", last.base, last.end-1, offset)
		}
	})
}
