package replicator

import (
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"
)

// FuzzFetched: whatever bytes a source answers with, the core does not panic. What it queues
// continues its position without a gap, and is stamped with its position.
func FuzzFetched(f *testing.F) {
	two := append(batchtest.HeaderOnly(10, 3, 0, 20), batchtest.HeaderOnly(13, 2, 0, 20)...)
	f.Add(two, int64(10))
	f.Add(two, int64(13))
	f.Add(two[:len(two)-5], int64(10))
	f.Add(batchtest.HeaderOnly(10, 3, 0x10, 20), int64(10)) // transactional
	f.Add(batchtest.HeaderOnly(10, 3, 0x20, 20), int64(10)) // control
	f.Add(batchtest.HeaderOnly(12, 3, 0, 20), int64(10))    // a hole
	f.Add(batchtest.HeaderOnly(8, 5, 0, 20), int64(10))     // straddles the position
	f.Add(batchtest.HeaderOnly(-1, 1<<30, 0, 0), int64(0))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, records []byte, at int64) {
		if at < 0 {
			return
		}
		for mode := range 4 {
			c := core.NewPartition("t-0", func(core.Item) {})
			align := mode&1 != 0
			e := core.LogEnd{Start: 5, End: 5, Next: at, Tail: at, Stored: at, Floor: at, Fresh: mode&2 != 0, Align: align, Last: core.EpochEnd{Epoch: -1, End: -1}}
			if align {
				e.Start, e.End = at, at
			}
			c.Resumed(e)
			gen := c.BeginFetch()
			c.Fetched(gen, core.Fetched{
				Records: append([]byte(nil), records...), HighWater: at, Stable: -1, LogStart: at, Epoch: -1,
				Tools: &core.FetchTools{Keep: func([]byte, bool) *memory.Frame { return nil }},
			})
			next := c.Next
			for _, i := range c.Queue {
				if i.Base < next || c.Align && i.Base != next || i.Records <= 0 {
					t.Fatalf("offset %d (%d records) where %d belongs", i.Base, i.Records, next)
				}
				if logical, _, _, ok := batch.ReadStamp(i.Bytes); !i.Markers() && (!ok || logical != i.Base) {
					t.Fatalf("offset %d is stamped %d", i.Base, logical)
				}
				next = i.End()
			}
			if c.FetchAt < next || c.Tail > c.FetchAt {
				t.Fatalf("would fetch at %d after %d, the last item ends at %d", c.FetchAt, next, c.Tail)
			}
		}
	})
}

// FuzzTail: whatever bytes a destination answers with, reading the tail of a log does not panic,
// makes progress, and finds nothing void below where it began.
func FuzzTail(f *testing.F) {
	stamped := batchtest.HeaderOnly(40, 3, 0, 20)
	if err := batch.Stamp(stamped, 140, 1); err != nil {
		f.Fatal(err)
	}
	batch.Header(stamped).SetBaseOffset(40)
	f.Add(stamped, int64(40), int64(140))
	batch.SetPlace(stamped, 40)
	f.Add(stamped, int64(40), int64(140))
	f.Add(stamped, int64(40), int64(141))
	f.Add(append(batchtest.HeaderOnly(38, 2, 0, 9), stamped...), int64(38), int64(138))
	f.Add(stamped[:30], int64(42), int64(0))
	f.Add(batchtest.HeaderOnly(40, 3, 0, 20), int64(41), int64(41))
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
