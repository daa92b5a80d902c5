package core

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/replicator/memory"

	"github.com/cockroachdb/datadriven"
)

// TestPartition plays the sessions of testdata/partition. Each command is one input of the core.
// The answer shows the effects, and the state after them. If this test fails, run it with -rewrite
// and inspect the diff.
func TestPartition(t *testing.T) {
	datadriven.Walk(t, "testdata/partition", func(t *testing.T, path string) {
		core := NewPartition("t-0", func(Item) {})
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
			var e Effects
			var b strings.Builder
			switch d.Cmd {
			case "resumed":
				next := num("next", num("end", 0)+num("shift", 0))
				e = p.Resumed(LogEnd{
					Start: num("start", 0), End: num("end", 0), Next: next, Tail: num("tail", next), Stored: num("stored", next),
					Floor: num("floor", 0), Fresh: d.HasArg("fresh"), Fillers: d.HasArg("fillers"), Last: EpochEnd{Epoch: int32(num("epoch", -1)), End: num("epoch-end", -1)},
					Align: d.HasArg("align"), NoAlign: "off",
				})
			case "fetch":
				offset, ok := p.WantsFetch(int(num("limit", 1000)))
				if !ok {
					return "no fetch wanted"
				}
				gen = p.BeginFetch()
				if d.HasArg("leader") && p.MustCompare(int32(num("leader", 0))) {
					return fmt.Sprintf("compare what is before %d: the batch of leader epoch %d that ends at %d", offset, p.Seen.Epoch, p.Seen.End)
				}
				return fmt.Sprintf("fetch at %d", offset)
			case "compared":
				e = p.Compared(gen, int32(num("leader", -1)), EpochAnswer{
					EpochEnd: EpochEnd{Epoch: int32(num("epoch", -1)), End: num("end", -1)}, Leader: int32(num("leader", -1)), There: int32(num("there", -1)),
				})
			case "seen":
				fmt.Fprintf(&b, "before %d: leader epoch %d up to %d; before %d: leader epoch %d up to %d; checked under %d",
					p.FetchAt, p.Seen.Epoch, p.Seen.End, p.Next, p.Done.Epoch, p.Done.End, p.checked)
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
					made := batchtest.HeaderOnly(base, count, attributes, 10)
					binary.BigEndian.PutUint32(made[12:], epoch)
					records = append(records, made...)
				}
				cut := int(num("cut", 0))
				e = p.Fetched(uint32(num("gen", int64(gen))), Fetched{
					Records: records[:len(records)-cut], HighWater: num("hwm", 100), Stable: -1, LogStart: num("start", 0), Epoch: int32(num("leader", -1)), Aborted: aborted(d), Tools: &FetchTools{Keep: func([]byte, bool) *memory.Frame { return nil }},
				})
			case "out-of-range":
				e = p.OutOfRange(gen, num("start", 0), num("end", 0))
			case "anchored":
				e = p.Anchored()
			case "take":
				rule := JoinRule{Below: int(num("below", 0)), Most: 1 << 20}
				i, ok := takeOne(p, rule)
				if !ok {
					return "nothing to append"
				}
				if p.Flight > 1 {
					return fmt.Sprintf("append %d to %d, joined of %d", i.Base, i.End()-1, p.Flight)
				}
				if i.Markers() {
					return fmt.Sprintf("mark %d to %d", i.Base, i.End()-1)
				}
				return fmt.Sprintf("append %d to %d", i.Base, i.End()-1)
			case "marked":
				e = p.Marked()
			case "unmarked":
				e = p.Unmarked("markers are refused")
			case "confirm":
				e = p.Confirm()
			case "realign":
				e = p.Realign()
			case "aligned":
				e = p.Aligned(num("to", 0))
			case "not-aligned":
				e = p.NotAligned("burning is refused", true)
			case "appended":
				e = p.Appended(num("at", p.Phys))
			case "uncertain":
				e = p.Uncertain(d.HasArg("lingering"))
			case "rejected":
				e = p.Rejected(Failf("RECORD_TOO_LARGE", "too large"))
			case "stop":
				e = p.Stop()
			case "abandon":
				e = p.Abandon()
			case "follow":
				floor, ok := p.Follow()
				if !ok {
					return "the floor stays"
				}
				fmt.Fprintf(&b, "floor %d\n", floor)
				e = p.Followed(floor)
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

func describe(b *strings.Builder, p *Partition, e Effects) {
	if e.Resume {
		fmt.Fprintf(b, "-> read the log's end (lingering %v)\n", e.Lingering)
	}
	if e.Anchor != nil {
		fmt.Fprintf(b, "-> store physical %d = logical %d, floor %d\n", e.Anchor.Physical, e.Anchor.Logical, e.Anchor.Floor)
	}
	if e.Ready {
		b.WriteString("-> ready to append\n")
	}
	if e.Trim > 0 {
		fmt.Fprintf(b, "-> delete records below offset %d\n", e.Trim)
	}
	if e.Burn > 0 {
		fmt.Fprintf(b, "-> burn the physical offsets below %d\n", e.Burn)
	}
	if e.Shifted != nil {
		fmt.Fprintf(b, "-> shifted from %d on: %s\n", e.Shifted.Began, e.Shifted.Reason)
	}
	if e.Lost > 0 {
		fmt.Fprintf(b, "-> lost %d\n", e.Lost)
	}
	if e.Ended {
		b.WriteString("-> ended\n")
	}
	fmt.Fprintf(b, "%s next=%d phys=%d fetch=%d queued=%d", p.State, p.Next, p.Phys, p.FetchAt, len(p.Queue))
	if p.Flight > 0 {
		b.WriteString(" in-flight")
	}
	if p.Virgin {
		b.WriteString(" virgin")
	}
	b.WriteString("\n")
	if p.Doomed != nil {
		fmt.Fprintf(b, "doomed: %v\n", p.Doomed)
	}
	if p.Failed != nil {
		fmt.Fprintf(b, "failed: %v\n", p.Failed)
	}
}
