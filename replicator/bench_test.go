package replicator

import (
	"fmt"
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"
)

// BenchmarkPartition measures what a partition does with a batch: take it out of a response,
// classify, stamp and queue it, give it to a stream, and confirm its append.
func BenchmarkPartition(b *testing.B) {
	for _, c := range []struct{ batches, payload int }{{1000, 1200}, {8, 127_000}} {
		b.Run(fmt.Sprintf("%dx%d", c.batches, c.payload), func(b *testing.B) {
			budget := memory.NewBudget(64 << 20)
			p := core.NewPartition("orders-0", func(i core.Item) { i.Frame.Release() })
			p.Resumed(core.LogEnd{Fresh: true, Last: core.UnknownEpoch, Align: true})
			var source []byte
			size := len(batchtest.HeaderOnly(0, 1, 0, c.payload))
			for n := range c.batches {
				source = append(source, batchtest.HeaderOnly(int64(n), 1, 0, c.payload)...)
			}
			var f *memory.Frame
			tools := core.FetchTools{Keep: func(_ []byte, alias bool) *memory.Frame {
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
				p.Fetched(p.BeginFetch(), core.Fetched{Records: f.Mem[:len(source)], HighWater: next, Stable: next, LogStart: 0, Epoch: 3, Tools: &tools})
				f.Release()
				for i, ok := takeJoined(&p, core.JoinRule{}); ok; i, ok = takeJoined(&p, core.JoinRule{}) {
					p.Appended(i.Base)
				}
				if p.Next != next {
					b.Fatalf("at %d, not %d: %v", p.Next, next, p.Failed)
				}
			}
			round() // the first one has an anchor
			p.Anchored()
			for i, ok := takeJoined(&p, core.JoinRule{}); ok; i, ok = takeJoined(&p, core.JoinRule{}) {
				p.Appended(i.Base)
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

// takeJoined is take, but returns several items as the one that they are joined to, without its
// bytes.
func takeJoined(p *core.Partition, r core.JoinRule) (i core.Item, ok bool) {
	items := p.Take(r)
	for n, next := range items {
		if n == 0 {
			i = next
			continue
		}
		i.Records, i.Seen = i.Records+next.Records, next.Seen
	}
	return i, len(items) > 0
}
