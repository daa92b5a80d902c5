package replicator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestPartition plays the sessions of testdata/partition. Each command is one input of the core; the answer is what it asks
// for, and where it is then. If this test fails, run it with -rewrite and inspect the diff.
func TestPartition(t *testing.T) {
	datadriven.Walk(t, "testdata/partition", func(t *testing.T, path string) {
		core := newPartition("t-0", func(item) {})
		p := &core
		gen := uint32(0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			num := func(key string, def int64) int64 {
				if !d.HasArg(key) {
					return def
				}
				var v int64
				d.ScanArgs(t, key, &v)
				return v
			}
			var e effects
			var b strings.Builder
			switch d.Cmd {
			case "resumed":
				end := logEnd{start: num("start", 0), end: num("end", 0), shift: num("shift", 0), floor: num("floor", 0), fresh: d.HasArg("fresh")}
				if d.HasArg("last") {
					end.last = &lastBatch{base: num("last", 0), end: end.end, stamped: d.HasArg("stamp"), logical: num("stamp", 0)}
				}
				e = p.resumed(end)
			case "fetch":
				offset, ok := p.wantsFetch(int(num("limit", 1000)))
				if !ok {
					return "no fetch wanted"
				}
				gen = p.beginFetch()
				return fmt.Sprintf("fetch at %d", offset)
			case "fetched":
				var records []byte
				for line := range strings.Lines(d.Input) {
					var base int64
					var count int32
					var attributes int16
					if n, err := fmt.Sscan(line, &base, &count, &attributes); n < 2 {
						t.Fatalf("%q: %v", line, err)
					}
					records = append(records, makeBatch(base, count, attributes, 10)...)
				}
				cut := int(num("cut", 0))
				e = p.fetched(uint32(num("gen", int64(gen))), fetched{
					records: records[:len(records)-cut], highWater: num("hwm", 100), logStart: num("start", 0), epoch: -1,
				}, func(*frame) {})
			case "out-of-range":
				e = p.outOfRange(gen, num("start", 0), num("end", 0))
			case "anchored":
				e = p.anchored()
			case "take":
				i, ok := p.take()
				if !ok {
					return "nothing to append"
				}
				return fmt.Sprintf("append %d to %d", i.base, i.end()-1)
			case "appended":
				e = p.appended(num("at", p.phys))
			case "uncertain":
				e = p.uncertain(d.HasArg("lingering"))
			case "rejected":
				e = p.rejected(failf("RECORD_TOO_LARGE", "too large"))
			case "stop":
				e = p.stop()
			case "abandon":
				e = p.abandon()
			case "follow":
				a, ok := p.follow()
				if !ok {
					return "the floor stays"
				}
				fmt.Fprintf(&b, "floor %d\n", a.floor)
				e = p.followed(a.floor)
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			describe(&b, p, e)
			return b.String()
		})
	})
}

func describe(b *strings.Builder, p *partition, e effects) {
	if e.resume {
		fmt.Fprintf(b, "-> read the log's end (lingering %v)\n", e.lingering)
	}
	if e.anchor != nil {
		fmt.Fprintf(b, "-> store physical %d = logical %d, floor %d\n", e.anchor.physical, e.anchor.logical, e.anchor.floor)
	}
	if e.ready {
		b.WriteString("-> ready to append\n")
	}
	if e.trim >= 0 {
		fmt.Fprintf(b, "-> delete records below physical %d\n", e.trim)
	}
	if e.ended {
		b.WriteString("-> ended\n")
	}
	fmt.Fprintf(b, "%s next=%d phys=%d fetch=%d queued=%d", p.state, p.next, p.phys, p.fetchAt, len(p.queue))
	if p.inFlight {
		b.WriteString(" in-flight")
	}
	if p.virgin {
		b.WriteString(" virgin")
	}
	b.WriteString("\n")
	if p.doomed != nil {
		fmt.Fprintf(b, "doomed: %v\n", p.doomed)
	}
	if p.failed != nil {
		fmt.Fprintf(b, "failed: %v\n", p.failed)
	}
}
