package replicator

import (
	"fmt"
	"slices"
	"testing"

	"klink/protocol/batch"

	"pgregory.net/rapid"
)

// span is a batch as the twin sees it.
type span struct {
	base  int64 // logical
	count int32
}

func (s span) end() int64 { return s.base + int64(s.count) }

// twin is a deliberately dumb picture of a source log, a destination log and the stored timeline around one core, which
// takes every liberty that networks and brokers have.
type twin struct {
	p *partition

	source      []span
	sourceStart int64
	dest        []span // physical offsets are the running sum of counts
	destStart   int64
	shift       int64
	floor       int64

	inFlight *item
	fetches  []pendingFetch
	old      []pendingFetch // delivered before; may be delivered again
	resuming bool
	anchor   *anchor
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

func (tw *twin) apply(e effects) {
	if e.resume {
		tw.resuming = true
	}
	if e.anchor != nil {
		tw.anchor = e.anchor
	}
	if e.trim >= 0 {
		tw.destStart = max(tw.destStart, e.trim)
	}
	if e.ended {
		tw.ended, tw.endedAt = true, len(tw.dest)
	}
}

// answer is what the source says to a fetch at offset.
func (tw *twin) answer(t *rapid.T, f pendingFetch) effects {
	if f.offset < tw.sourceStart || f.offset > tw.sourceEnd() {
		return tw.p.outOfRange(f.gen, tw.sourceStart, tw.sourceEnd())
	}
	var records []byte
	n := rapid.IntRange(0, 4).Draw(t, "batches")
	for _, s := range tw.source {
		if s.end() <= f.offset || n == 0 {
			continue
		}
		n--
		records = append(records, makeBatch(s.base, s.count, 0, 10)...)
	}
	if rapid.Bool().Draw(t, "cut") && len(records) > 0 {
		records = records[:len(records)-rapid.IntRange(0, 40).Draw(t, "by")]
	}
	return tw.p.fetched(f.gen, fetched{records: records, highWater: tw.sourceEnd(), logStart: tw.sourceStart, epoch: -1},
		func(*frame) { tw.held++ })
}

func (tw *twin) check(t *rapid.T) {
	// What is at the destination is a run of the source's batches, each once, in order.
	at := slices.Index(tw.source, firstOr(tw.dest))
	if len(tw.dest) > 0 && at < 0 {
		t.Fatalf("the mirror begins with %v, which the source never had", tw.dest[0])
	}
	for i, s := range tw.dest {
		if tw.source[at+i] != s {
			t.Fatalf("batch %d of the mirror is %v, the source has %v", i, s, tw.source[at+i])
		}
	}
	if tw.ended && len(tw.dest) != tw.endedAt {
		t.Fatalf("appended after the end")
	}
	if tw.p.inFlight != (tw.inFlight != nil) {
		t.Fatalf("in flight: core %v, twin %v", tw.p.inFlight, tw.inFlight != nil)
	}
	if len(tw.p.queue) != tw.held {
		t.Fatalf("%d batches are kept, %d are queued", tw.held, len(tw.p.queue))
	}
	next, bytes := tw.p.next, 0
	for _, i := range tw.p.queue {
		if i.base != next {
			t.Fatalf("the queue has offset %d where %d belongs", i.base, next)
		}
		next, bytes = i.end(), bytes+len(i.bytes)
	}
	if bytes != tw.p.queued {
		t.Fatalf("%d bytes queued, counted %d", bytes, tw.p.queued)
	}
	if tw.p.state == stateRunning && tw.p.next-tw.p.phys != tw.shift && !tw.p.virgin {
		t.Fatalf("shift %d, the timeline says %d", tw.p.next-tw.p.phys, tw.shift)
	}
}

func firstOr(s []span) span {
	if len(s) == 0 {
		return span{}
	}
	return s[0]
}

// TestPartitionAgainstTwin: whatever is lost, doubled, delayed or unknown, the mirror is a run of the source's batches, and
// nothing comes after the end.
func TestPartitionAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 20).Draw(t, "start")
		tw := &twin{resuming: true}
		core := newPartition("t-0", func(item) { tw.held-- })
		tw.p = &core
		produce := func(t *rapid.T) {
			s := span{base: tw.sourceEnd(), count: int32(rapid.IntRange(1, 5).Draw(t, "count"))}
			if len(tw.source) == 0 {
				s.base = start
			}
			tw.source = append(tw.source, s)
		}
		tw.sourceStart = start
		produce(t)
		tw.sourceStart = start + rapid.Int64Range(0, int64(tw.source[0].count)-1).Draw(t, "floor")
		tw.shift, tw.floor = tw.sourceStart, tw.sourceStart

		t.Repeat(map[string]func(*rapid.T){
			"produce": produce,
			"fetch": func(t *rapid.T) {
				if offset, ok := tw.p.wantsFetch(100); ok {
					tw.fetches = append(tw.fetches, pendingFetch{tw.p.beginFetch(), offset})
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
					tw.p.fetchFailed(f.gen)
					return
				}
				tw.apply(tw.answer(t, f))
			},
			"answer of a dropped generation": func(t *rapid.T) {
				for _, f := range tw.old {
					if f.gen != tw.p.gen {
						tw.apply(tw.answer(t, f))
						return
					}
				}
				t.Skip()
			},
			"take": func(t *rapid.T) {
				if i, ok := tw.p.take(); ok {
					if tw.inFlight != nil {
						t.Fatal("two batches in flight")
					}
					logical, _, _, stamped := batch.ReadStamp(i.bytes)
					if !stamped || logical != i.base {
						t.Fatalf("batch %d is stamped %d", i.base, logical)
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
				base := tw.destEnd()
				if rapid.Bool().Draw(t, "appended") {
					if tw.anchor != nil {
						t.Fatal("appended before the timeline was stored")
					}
					tw.dest = append(tw.dest, span{i.base, i.records})
					if rapid.Bool().Draw(t, "confirmed") {
						tw.apply(tw.p.appended(base))
						return
					}
				}
				tw.apply(tw.p.uncertain(rapid.Bool().Draw(t, "lingering")))
			},
			"resume": func(t *rapid.T) {
				if !tw.resuming {
					t.Skip()
				}
				tw.resuming = false
				e := logEnd{start: tw.destStart, end: tw.destEnd(), shift: tw.shift, floor: tw.floor}
				if n := len(tw.dest); n > 0 && e.start < e.end {
					last := tw.dest[n-1]
					e.last = &lastBatch{base: e.end - int64(last.count), end: e.end, stamped: true, logical: last.base}
				}
				tw.apply(tw.p.resumed(e))
			},
			"anchor": func(t *rapid.T) {
				if tw.anchor == nil {
					t.Skip()
				}
				if len(tw.dest) > 0 && tw.anchor.logical-tw.anchor.physical != tw.shift {
					t.Fatal("the shift of a log with records changes")
				}
				tw.shift, tw.floor = tw.anchor.logical-tw.anchor.physical, tw.anchor.floor
				tw.anchor = nil
				tw.apply(tw.p.anchored())
			},
			"follow": func(t *rapid.T) {
				if a, ok := tw.p.follow(); ok {
					tw.floor = a.floor
					tw.apply(tw.p.followed(a.floor))
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
				tw.apply(tw.p.stop())
			},
			"": tw.check,
		})

		// Left alone, it ends with everything, stopped, or failed for the one reason there is here.
		for range 1000 {
			if f := tw.fetches; len(f) > 0 {
				tw.fetches = f[1:]
				tw.apply(tw.answer(t, f[0]))
			}
			if tw.inFlight != nil {
				i := *tw.inFlight
				tw.inFlight = nil
				base := tw.destEnd()
				tw.dest = append(tw.dest, span{i.base, i.records})
				tw.apply(tw.p.appended(base))
			}
			if tw.anchor != nil {
				tw.shift, tw.floor = tw.anchor.logical-tw.anchor.physical, tw.anchor.floor
				tw.anchor = nil
				tw.apply(tw.p.anchored())
			}
			if tw.resuming {
				tw.resuming = false
				e := logEnd{start: tw.destStart, end: tw.destEnd(), shift: tw.shift, floor: tw.floor}
				if n := len(tw.dest); n > 0 && e.start < e.end {
					last := tw.dest[n-1]
					e.last = &lastBatch{base: e.end - int64(last.count), end: e.end, stamped: true, logical: last.base}
				}
				tw.apply(tw.p.resumed(e))
			}
			if offset, ok := tw.p.wantsFetch(100); ok {
				tw.fetches = append(tw.fetches, pendingFetch{tw.p.beginFetch(), offset})
			}
			if i, ok := tw.p.take(); ok {
				tw.inFlight = &i
			}
			tw.check(t)
		}
		switch {
		case tw.ended && tw.p.state == stateStopped && tw.p.phys >= 0 && tw.destEnd()+tw.shift < tw.floor:
			t.Fatalf("stopped with the end at %d, below the floor %d", tw.destEnd()+tw.shift, tw.floor)
		case tw.stopped && !tw.ended:
			t.Fatalf("stopped, and still %v", tw.p.state)
		case tw.ended && (tw.p.state == stateFailed) == (tw.p.failed == nil):
			t.Fatalf("ended in state %v with failure %v", tw.p.state, tw.p.failed)
		case tw.ended && !tw.stopped && string(tw.p.failed.code) != "SOURCE_RECORDS_LOST":
			t.Fatalf("failed: %v", tw.p.failed)
		case !tw.ended && tw.p.next != tw.sourceEnd() && !(tw.p.virgin && tw.p.fetchAt == tw.sourceEnd()):
			t.Fatalf("the mirror ends at %d, the source at %d: %s", tw.p.next, tw.sourceEnd(), fmt.Sprint(tw.p.state))
		}
	})
}
