package replicator

import (
	"fmt"
	"testing"

	"klink/protocol/batch"
	"klink/replicator/memory"
)

// BenchmarkPartition measures what a partition does with a batch: take it out of a response,
// classify, stamp and queue it, give it to a stream, and confirm its append.
func BenchmarkPartition(b *testing.B) {
	for _, c := range []struct{ batches, payload int }{{1000, 1200}, {8, 127_000}} {
		b.Run(fmt.Sprintf("%dx%d", c.batches, c.payload), func(b *testing.B) {
			budget := memory.NewBudget(64 << 20)
			p := newPartition("orders-0", func(i item) { i.frame.Release() })
			p.resumed(logEnd{fresh: true, last: unknownEpoch, align: true})
			var source []byte
			size := len(makeBatch(0, 1, 0, c.payload))
			for n := range c.batches {
				source = append(source, makeBatch(int64(n), 1, 0, c.payload)...)
			}
			var f *memory.Frame
			tools := fetchTools{keep: func(_ []byte, alias bool) *memory.Frame {
				if !alias {
					b.Fatal("a batch was copied")
				}
				f.Keep()
				return f
			}}
			next := int64(0)
			round := func() {
				f = budget.Read(0, int64(len(source)))
				if next == 0 {
					copy(f.Mem, source)
				}
				for at := 0; at < len(source); at += size { // it is the same memory each time
					h := batch.Header(f.Mem[at : at+size])
					copy(h, source[at:at+batch.HeaderSize])
					h.SetBaseOffset(next)
					next++
				}
				p.fetched(p.beginFetch(), fetched{records: f.Mem[:len(source)], highWater: next, stable: next, logStart: 0, epoch: 3, tools: &tools})
				f.Release()
				for i, ok := takeOne(&p, joinRule{}); ok; i, ok = takeOne(&p, joinRule{}) {
					p.appended(i.base)
				}
				if p.next != next {
					b.Fatalf("at %d, not %d: %v", p.next, next, p.failed)
				}
			}
			round() // the first one has an anchor
			p.anchored()
			for i, ok := takeOne(&p, joinRule{}); ok; i, ok = takeOne(&p, joinRule{}) {
				p.appended(i.base)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(source)))
			for b.Loop() {
				round()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.batches), "ns/batch")
		})
	}
}
