package replicator

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"klink/protocol/batch"
	"klink/replicator/memory"

	"github.com/cockroachdb/datadriven"
)

// TestPartition plays the sessions of testdata/partition. Each command is one input of the core.
// The answer shows the effects, and the state after them. If this test fails, run it with -rewrite
// and inspect the diff.
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
				next := num("next", num("end", 0)+num("shift", 0))
				e = p.resumed(logEnd{
					start: num("start", 0), end: num("end", 0), next: next, tail: num("tail", next), stored: num("stored", next),
					floor: num("floor", 0), fresh: d.HasArg("fresh"), fillers: d.HasArg("fillers"), last: epochEnd{int32(num("epoch", -1)), num("epoch-end", -1)},
					align: d.HasArg("align"), noAlign: "off",
				})
			case "fetch":
				offset, ok := p.wantsFetch(int(num("limit", 1000)))
				if !ok {
					return "no fetch wanted"
				}
				gen = p.beginFetch()
				if d.HasArg("leader") && p.mustCompare(int32(num("leader", 0))) {
					return fmt.Sprintf("compare what is before %d: the batch of leader epoch %d that ends at %d", offset, p.seen.epoch, p.seen.end)
				}
				return fmt.Sprintf("fetch at %d", offset)
			case "compared":
				e = p.compared(gen, int32(num("leader", -1)), epochAnswer{
					epochEnd{int32(num("epoch", -1)), num("end", -1)}, int32(num("leader", -1)), int32(num("there", -1)),
				})
			case "seen":
				fmt.Fprintf(&b, "before %d: leader epoch %d up to %d; before %d: leader epoch %d up to %d; checked under %d",
					p.fetchAt, p.seen.epoch, p.seen.end, p.next, p.done.epoch, p.done.end, p.checked)
				return b.String()
			case "fetched":
				var records []byte
				for line := range strings.Lines(d.Input) {
					var base int64
					var count int32
					var attributes int16
					epoch := uint32(3)
					if n, err := fmt.Sscan(line, &base, &count, &attributes, &epoch); n < 2 {
						t.Fatalf("%q: %v", line, err)
					}
					made := makeBatch(base, count, attributes, 10)
					binary.BigEndian.PutUint32(made[12:], epoch)
					records = append(records, made...)
				}
				cut := int(num("cut", 0))
				e = p.fetched(uint32(num("gen", int64(gen))), fetched{
					records: records[:len(records)-cut], highWater: num("hwm", 100), stable: -1, logStart: num("start", 0), epoch: int32(num("leader", -1)), aborted: aborted(d), tools: &fetchTools{keep: func([]byte, bool) *memory.Frame { return nil }},
				})
			case "out-of-range":
				e = p.outOfRange(gen, num("start", 0), num("end", 0))
			case "anchored":
				e = p.anchored()
			case "take":
				rule := joinRule{below: int(num("below", 0)), most: 1 << 20}
				i, ok := takeOne(p, rule)
				if !ok {
					return "nothing to append"
				}
				if p.flight > 1 {
					return fmt.Sprintf("append %d to %d, joined of %d", i.base, i.end()-1, p.flight)
				}
				if i.markers() {
					return fmt.Sprintf("mark %d to %d", i.base, i.end()-1)
				}
				return fmt.Sprintf("append %d to %d", i.base, i.end()-1)
			case "marked":
				e = p.marked()
			case "unmarked":
				e = p.unmarked("markers are refused")
			case "confirm":
				e = p.confirm()
			case "realign":
				e = p.realign()
			case "aligned":
				e = p.aligned(num("to", 0))
			case "not-aligned":
				e = p.notAligned("burning is refused", true)
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
				floor, ok := p.follow()
				if !ok {
					return "the floor stays"
				}
				fmt.Fprintf(&b, "floor %d\n", floor)
				e = p.followed(floor)
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			describe(&b, p, e)
			return b.String()
		})
	})
}

// aborted returns the aborted transactions of a fetch, given as producer:first.
func aborted(d *datadriven.TestData) (list []batch.AbortedTransaction) {
	for _, arg := range d.CmdArgs {
		if arg.Key == "aborted" {
			for _, v := range arg.Vals {
				var a batch.AbortedTransaction
				if _, err := fmt.Sscanf(v, "%d:%d", &a.ProducerID, &a.FirstOffset); err == nil {
					list = append(list, a)
				}
			}
		}
	}
	return list
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
		fmt.Fprintf(b, "-> delete records below offset %d\n", e.trim)
	}
	if e.burn > 0 {
		fmt.Fprintf(b, "-> burn the physical offsets below %d\n", e.burn)
	}
	if e.shifted != nil {
		fmt.Fprintf(b, "-> shifted from %d on: %s\n", e.shifted.began, e.shifted.reason)
	}
	if e.lost > 0 {
		fmt.Fprintf(b, "-> lost %d\n", e.lost)
	}
	if e.ended {
		b.WriteString("-> ended\n")
	}
	fmt.Fprintf(b, "%s next=%d phys=%d fetch=%d queued=%d", p.state, p.next, p.phys, p.fetchAt, len(p.queue))
	if p.flight > 0 {
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
