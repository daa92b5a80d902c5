package core

import (
	"fmt"
	"slices"
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/replicator/memory"

	"pgregory.net/rapid"
)

// span is a batch as the twin sees it.
type span struct {
	base   int64 // logical
	count  int32
	marker bool // a control batch: a hole
}

func (s span) end() int64 { return s.base + int64(s.count) }

// twin is a deliberately dumb model of a source log, a destination log and the stored timeline
// around one core. It takes every liberty that networks and brokers have.
type twin struct {
	p *Partition

	source      []span
	sourceStart int64
	dest        []span // physical offsets are the running sum of counts
	destStart   int64
	destBegan   int64 // physical offset of the first batch
	stored      int64 // logical offset of the log's begin, as stored
	floor       int64
	align       bool
	realigned   bool // align has changed
	burn        int64
	begin       int64 // where the mirror begins, in the source's log or at one of its ends
	lostBelow   int64 // the source deleted records below this before they were mirrored

	inFlight *Item
	parts    []span // of what is in flight
	fetches  []pendingFetch
	old      []pendingFetch // delivered before; may be delivered again
	resuming bool
	anchor   *Anchor
	held     int // items not released

	stopped bool // stop was called
	endedAt int  // length of dest when the core said that it had ended
	ended   bool
}

type pendingFetch struct {
	gen    uint32
	offset int64
}

func (tw *twin) destEnd() int64 {
	var n int64
	for _, s := range tw.dest {
		n += int64(s.count)
	}
	return n
}

func (tw *twin) sourceEnd() int64 {
	if len(tw.source) == 0 {
		return tw.sourceStart
	}
	return tw.source[len(tw.source)-1].end()
}

func (tw *twin) apply(e Effects) {
	if e.Resume {
		tw.resuming = true
	}
	if e.Anchor != nil {
		tw.anchor = e.Anchor
	}
	if e.Trim > 0 {
		tw.destStart = max(tw.destStart, e.Trim)
	}
	if e.Burn > 0 {
		tw.burn = e.Burn
	}
	if e.Lost > 0 {
		tw.lostBelow = tw.p.FetchAt
	}
	if e.Ended {
		tw.ended, tw.endedAt = true, len(tw.dest)
	}
}

// answer returns the source's response to a fetch at offset.
func (tw *twin) answer(t *rapid.T, f pendingFetch) Effects {
	if f.offset < tw.sourceStart || f.offset > tw.sourceEnd() {
		return tw.p.OutOfRange(f.gen, tw.sourceStart, tw.sourceEnd())
	}
	var records []byte
	n := rapid.IntRange(0, 4).Draw(t, "batches")
	for _, s := range tw.source {
		if s.end() <= f.offset || n == 0 {
			continue
		}
		n--
		attributes := int16(0)
		if s.marker {
			attributes = 0x20
		}
		records = append(records, batchtest.HeaderOnly(s.base, s.count, attributes, 10)...)
	}
	if rapid.Bool().Draw(t, "cut") && len(records) > 0 {
		records = records[:len(records)-rapid.IntRange(0, 40).Draw(t, "by")]
	}
	return tw.p.Fetched(f.gen, Fetched{
		Records: records, HighWater: tw.sourceEnd(), Stable: -1, LogStart: tw.sourceStart, Epoch: -1,
		Tools: &FetchTools{Keep: func([]byte, bool) *memory.Frame { tw.held++; return nil }},
	})
}

func (tw *twin) check(t *rapid.T) {
	// The destination has the source's batches from some batch on, each once, in order; markers
	// stand for holes.
	next, physical, shifted := int64(-1), int64(0), false
	for i, s := range tw.dest {
		switch {
		case next >= 0 && s.base < next:
			t.Fatalf("%v comes after what ends at %d", s, next)
		case !s.marker && !slices.Contains(tw.source, s):
			t.Fatalf("batch %d of the mirror is %v, which the source never had", i, s)
		case s.end() <= tw.begin && !s.marker:
			t.Fatalf("batch %d of the mirror is %v, which comes before the mirror begins at %d", i, s, tw.begin)
		}
		for _, o := range tw.source {
			missed := !o.marker && o.base < s.base && o.end() > max(next, tw.begin) && o.end() > tw.lostBelow && o.end() > tw.sourceStart
			if next >= 0 {
				missed = !o.marker && o.base < s.base && o.end() > next && o.end() > tw.lostBelow
			}
			marked := !o.marker && s.marker && o.base < s.end() && o.end() > s.base && o.end() > tw.lostBelow
			if missed || marked {
				t.Fatalf("the mirror has %v and lacks %v: %v", s, o, tw.dest)
			}
		}
		shifted = shifted || s.base != physical+tw.destBegan
		next, physical = s.end(), physical+int64(s.count)
	}
	if tw.floor < tw.begin || tw.anchor != nil && tw.anchor.Floor < tw.begin {
		t.Fatalf("the floor %d, or that of %+v, is below %d, where the mirror begins", tw.floor, tw.anchor, tw.begin)
	}
	if tw.p.Align && shifted {
		t.Fatalf("shifted: %v from %d on", tw.dest, tw.destBegan)
	}
	if tw.ended && len(tw.dest) != tw.endedAt {
		t.Fatalf("appended after the end")
	}
	if p := tw.p; p.Seen.End > p.FetchAt || p.Done.End > p.Next || p.State == StateRunning && p.Last.End > p.Sure.Logical {
		t.Fatalf("batches seen behind their offsets: %+v before %d, %+v before %d, %+v before %+v", p.Seen, p.FetchAt, p.Done, p.Next, p.Last, p.Sure)
	}
	if (tw.p.Flight > 0) != (tw.inFlight != nil) {
		t.Fatalf("in flight: core %v, twin %v", tw.p.Flight, tw.inFlight != nil)
	}
	next, bytes, held := tw.p.Next, 0, 0
	if n := len(tw.p.Queue); n > 0 && next > tw.p.Queue[0].Base {
		next = tw.p.DoneTail // a hole was noted behind the last record, and is filled now
	}
	for _, i := range tw.p.Queue {
		if i.Base < next {
			t.Fatalf("the queue has offset %d where %d belongs", i.Base, next)
		}
		if !i.Markers() {
			held++
		}
		next, bytes = i.End(), bytes+len(i.Bytes)
	}
	if held != tw.held {
		t.Fatalf("%d batches are kept, %d are queued", tw.held, held)
	}
	if bytes != tw.p.Queued {
		t.Fatalf("%d bytes queued, counted %d", bytes, tw.p.Queued)
	}
}

// end returns the destination's log as a worker reads it.
func (tw *twin) logEnd() LogEnd {
	next := tw.floor
	if len(tw.dest) > 0 {
		next = tw.dest[len(tw.dest)-1].end()
	}
	end := tw.destBegan + tw.destEnd()
	return LogEnd{
		Start: max(tw.destBegan, tw.destStart), End: end, Next: next, Tail: next, Stored: tw.stored, Floor: tw.floor,
		Fresh: len(tw.dest) == 0, Align: tw.align, NoAlign: "off", Last: EpochEnd{Epoch: -1, End: -1},
	}
}

// append puts an item into the destination's log. A joined item becomes the batches that it was
// joined of.
func (tw *twin) append(i Item) {
	if len(tw.parts) > 1 {
		tw.dest = append(tw.dest, tw.parts...)
		return
	}
	tw.dest = append(tw.dest, span{i.Base, i.Records, i.Markers()})
}

// take is takeOne, and notes the parts of the item.
func (tw *twin) take(r JoinRule) (i Item, ok bool) {
	i, ok = takeOne(tw.p, r)
	tw.parts = tw.parts[:0:0]
	for _, part := range tw.p.Queue[:tw.p.Flight] {
		tw.parts = append(tw.parts, span{part.Base, part.Records, part.Markers()})
	}
	return i, ok
}

// burned completes a burn.
func (tw *twin) burned(t *rapid.T) {
	to := tw.burn
	tw.burn = 0
	if len(tw.dest) > 0 {
		t.Fatal("burned a log with records")
	}
	tw.destBegan = to
	tw.apply(tw.p.Aligned(to))
}

// anchored completes the storing of a start of the timeline.
func (tw *twin) anchored(t *rapid.T) {
	if len(tw.dest) > 0 {
		t.Fatal("the start of a log with records changes")
	}
	tw.stored, tw.floor = tw.anchor.Logical, tw.anchor.Floor
	tw.anchor = nil
	tw.apply(tw.p.Anchored())
}

// TestPartitionAgainstTwin: whatever is lost, doubled, delayed or left without a result, the mirror
// is a run of the source's batches, and nothing is appended after the end.
func TestPartitionAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 20).Draw(t, "start")
		tw := &twin{resuming: true}
		core := NewPartition("t-0", func(Item) { tw.held-- })
		tw.p = &core
		produce := func(t *rapid.T) {
			s := span{base: tw.sourceEnd(), count: int32(rapid.IntRange(1, 5).Draw(t, "count"))}
			if len(tw.source) > 0 && rapid.IntRange(0, 3).Draw(t, "marker") == 0 {
				s.count, s.marker = 1, true
			}
			if len(tw.source) == 0 {
				s.base = start
			}
			tw.source = append(tw.source, s)
		}
		tw.sourceStart = start
		produce(t)
		tw.sourceStart = start + rapid.Int64Range(0, int64(tw.source[0].count)-1).Draw(t, "floor")
		tw.begin = tw.sourceStart
		if rapid.Bool().Draw(t, "begin later") {
			for range rapid.IntRange(0, 4).Draw(t, "batches before") {
				produce(t)
			}
			tw.begin = rapid.Int64Range(tw.sourceStart, tw.sourceEnd()).Draw(t, "begin")
		}
		tw.stored, tw.floor = tw.begin, tw.begin
		tw.align = rapid.Bool().Draw(t, "align")

		t.Repeat(map[string]func(*rapid.T){
			"produce": produce,
			"fetch": func(t *rapid.T) {
				if offset, ok := tw.p.WantsFetch(100); ok {
					tw.fetches = append(tw.fetches, pendingFetch{tw.p.BeginFetch(), offset})
				}
			},
			"answer": func(t *rapid.T) {
				if len(tw.fetches) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(tw.fetches)-1).Draw(t, "which")
				f := tw.fetches[i]
				tw.fetches = slices.Delete(tw.fetches, i, i+1)
				tw.old = append(tw.old, f)
				if rapid.IntRange(0, 3).Draw(t, "fate") == 0 {
					tw.p.FetchFailed(f.gen)
					return
				}
				tw.apply(tw.answer(t, f))
			},
			"answer of a dropped generation": func(t *rapid.T) {
				for _, f := range tw.old {
					if f.gen != tw.p.Gen {
						tw.apply(tw.answer(t, f))
						return
					}
				}
				t.Skip()
			},
			"take": func(t *rapid.T) {
				rule := JoinRule{Below: rapid.SampledFrom([]int{0, 1 << 20}).Draw(t, "below"), Most: rapid.IntRange(0, 2000).Draw(t, "most")}
				if i, ok := tw.take(rule); ok {
					if tw.inFlight != nil {
						t.Fatal("two batches in flight")
					}
					logical, _, _, stamped := batch.ReadStamp(i.Bytes)
					if !i.Markers() && (!stamped || logical != i.Base) {
						t.Fatalf("batch %d is stamped %d", i.Base, logical)
					}
					tw.inFlight = &i
				}
			},
			"result": func(t *rapid.T) {
				if tw.inFlight == nil {
					t.Skip()
				}
				i := *tw.inFlight
				tw.inFlight = nil
				base := tw.destBegan + tw.destEnd()
				if rapid.Bool().Draw(t, "appended") {
					if tw.anchor != nil {
						t.Fatal("appended before the timeline was stored")
					}
					if i.Markers() && rapid.Bool().Draw(t, "some") {
						i.Records = int32(rapid.IntRange(1, int(i.Records)).Draw(t, "of them"))
						tw.append(i)
						tw.apply(tw.p.Uncertain(false))
						return
					}
					tw.append(i)
					if rapid.Bool().Draw(t, "confirmed") {
						tw.confirm(i, base)
						return
					}
				}
				tw.apply(tw.p.Uncertain(rapid.Bool().Draw(t, "lingering")))
			},
			"resume": func(t *rapid.T) {
				if !tw.resuming {
					t.Skip()
				}
				tw.resuming = false
				tw.apply(tw.p.Resumed(tw.logEnd()))
			},
			"anchor": func(t *rapid.T) {
				if tw.anchor == nil {
					t.Skip()
				}
				tw.anchored(t)
			},
			"burned": func(t *rapid.T) {
				if tw.burn == 0 {
					t.Skip()
				}
				if rapid.IntRange(0, 3).Draw(t, "fate") == 0 {
					tw.burn, tw.align = 0, false
					tw.apply(tw.p.NotAligned("refused", false))
					return
				}
				tw.burned(t)
			},
			"realign": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
					t.Skip()
				}
				tw.align, tw.realigned = !tw.align, true
				tw.apply(tw.p.Realign())
			},
			"confirm": func(*rapid.T) { tw.apply(tw.p.Confirm()) },
			"follow": func(t *rapid.T) {
				if floor, ok := tw.p.Follow(); ok {
					tw.floor = floor
					tw.apply(tw.p.Followed(floor))
				}
			},
			"source deletes": func(t *rapid.T) {
				if tw.sourceEnd() > tw.sourceStart && rapid.IntRange(0, 5).Draw(t, "rarely") == 0 {
					tw.sourceStart++
				}
			},
			"stop": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "rarely") > 0 {
					t.Skip()
				}
				tw.stopped = true
				tw.apply(tw.p.Stop())
			},
			"": tw.check,
		})

		// Without further faults the mirror ends with everything, or stopped, or failed for the
		// only reason possible here.
		for range 1000 {
			if f := tw.fetches; len(f) > 0 {
				tw.fetches = f[1:]
				tw.apply(tw.answer(t, f[0]))
			}
			if tw.inFlight != nil {
				i := *tw.inFlight
				tw.inFlight = nil
				base := tw.destBegan + tw.destEnd()
				tw.append(i)
				tw.confirm(i, base)
			}
			if tw.burn > 0 {
				tw.burned(t)
			}
			if tw.anchor != nil {
				tw.anchored(t)
			}
			if tw.resuming {
				tw.resuming = false
				tw.apply(tw.p.Resumed(tw.logEnd()))
			}
			if offset, ok := tw.p.WantsFetch(100); ok {
				tw.fetches = append(tw.fetches, pendingFetch{tw.p.BeginFetch(), offset})
			}
			if i, ok := tw.take(JoinRule{}); ok {
				tw.inFlight = &i
			}
			tw.check(t)
		}
		switch {
		case tw.stopped && !tw.ended:
			t.Fatalf("stopped, and still %v", tw.p.State)
		case tw.ended && (tw.p.State == StateFailed) == (tw.p.Failed == nil):
			t.Fatalf("ended in state %v with failure %v", tw.p.State, tw.p.Failed)
		case tw.ended && !tw.stopped:
			t.Fatalf("failed: %v", tw.p.Failed)
		case tw.ended && len(tw.dest) == 0 && tw.p.Next >= 0 && tw.stored < tw.floor:
			t.Fatalf("stopped with the end at %d, below the floor %d", tw.stored, tw.floor)
		case !tw.ended && tw.p.Next != tw.sourceEnd():
			t.Fatalf("the mirror ends at %d, the source at %d: %s", tw.p.Next, tw.sourceEnd(), fmt.Sprint(tw.p.State))
		case !tw.ended && tw.p.Align != tw.align && (tw.p.Align || !tw.realigned):
			t.Fatalf("aligned %v, wanted %v", tw.p.Align, tw.align)
		}
	})
}

// confirm tells the core that an item was appended.
func (tw *twin) confirm(i Item, base int64) {
	if i.Markers() {
		tw.apply(tw.p.Marked())
		return
	}
	tw.apply(tw.p.Appended(base))
}

// takeOne is take, but returns several items as the one that they are joined to, without its bytes.
func takeOne(p *Partition, r JoinRule) (i Item, ok bool) {
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
