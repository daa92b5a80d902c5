package replicator

import (
	"testing"

	"klink/protocol/batch"
	"klink/replicator/memory"
)

// FuzzFetched: whatever bytes a source answers with, the core does not panic. What it queues
// continues its position without a gap, and is stamped with its position.
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
		for mode := range 4 {
			core := newPartition("t-0", func(item) {})
			align := mode&1 != 0
			e := logEnd{start: 5, end: 5, next: at, tail: at, stored: at, floor: at, fresh: mode&2 != 0, align: align, last: epochEnd{-1, -1}}
			if align {
				e.start, e.end = at, at
			}
			core.resumed(e)
			gen := core.beginFetch()
			core.fetched(gen, fetched{
				records: append([]byte(nil), records...), highWater: at, stable: -1, logStart: at, epoch: -1,
				tools: &fetchTools{keep: func([]byte, bool) *memory.Frame { return nil }},
			})
			next := core.next
			for _, i := range core.queue {
				if i.base < next || core.align && i.base != next || i.records <= 0 {
					t.Fatalf("offset %d (%d records) where %d belongs", i.base, i.records, next)
				}
				if logical, _, _, ok := batch.ReadStamp(i.bytes); !i.markers() && (!ok || logical != i.base) {
					t.Fatalf("offset %d is stamped %d", i.base, logical)
				}
				next = i.end()
			}
			if core.fetchAt < next || core.tail > core.fetchAt {
				t.Fatalf("would fetch at %d after %d, the last item ends at %d", core.fetchAt, next, core.tail)
			}
		}
	})
}

// FuzzTail: whatever bytes a destination answers with, reading the tail of a log does not panic,
// makes progress, and finds nothing void below where it began.
func FuzzTail(f *testing.F) {
	stamped := makeBatch(40, 3, 0, 20)
	if err := batch.Stamp(stamped, 140, 1); err != nil {
		f.Fatal(err)
	}
	batch.Header(stamped).SetBaseOffset(40)
	f.Add(stamped, int64(40), int64(140))
	batch.SetPlace(stamped, 40)
	f.Add(stamped, int64(40), int64(140))
	f.Add(stamped, int64(40), int64(141))
	f.Add(append(makeBatch(38, 2, 0, 9), stamped...), int64(38), int64(138))
	f.Add(stamped[:30], int64(42), int64(0))
	f.Add(makeBatch(40, 3, 0, 20), int64(41), int64(41))
	f.Fuzz(func(t *testing.T, records []byte, at, next int64) {
		if at < 0 || next < 0 {
			return
		}
		tl := tail{at: at, next: next}
		for w := batch.Walk(records); w.Next(); {
			before := tl
			if tl.see(w.Batch()) == nil && (tl.at <= before.at || tl.next < before.next) {
				t.Fatalf("went from %+v to %+v", before, tl)
			}
		}
		if tl.void < 0 || tl.foreign > tl.void || tl.void > tl.at-at {
			t.Fatalf("%d of %d offsets are void, %d of them others'", tl.void, tl.at-at, tl.foreign)
		}
	})
}
