package timeline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// logTwin is a partition that remembers every batch: dumb, and right by construction.
type logTwin struct {
	batches []twinBatch // in physical order
	starts  int         // batches below were deleted
	first   span        // where the log began
	end     int64       // physical
	next    int64       // logical: after the last record
	until   int64       // logical end
	stored  int64       // logical end that a checkpoint has
	floor   int64
}

// twinBatch is a batch in the log; void ones do not count.
type twinBatch struct {
	p, l, n int64
	void    bool
}

func (w *logTwin) start() int64 {
	if w.starts < len(w.batches) {
		return w.batches[w.starts].p
	}
	return w.end
}

// deleted reports whether an offset is below the first record that is left. As far as a reader can
// see, there may have been a record.
func (w *logTwin) deleted(logical int64) bool {
	return w.starts > 0 && logical < w.logical(w.start())
}

// physical returns the physical offset of the first record at or above a logical offset, the end if
// there is none.
func (w *logTwin) physical(logical int64) int64 {
	i := sort.Search(len(w.batches), func(i int) bool {
		for ; i < len(w.batches); i++ {
			if b := w.batches[i]; !b.void {
				return b.l+b.n > logical
			}
		}
		return true
	})
	for ; i < len(w.batches); i++ {
		if b := w.batches[i]; !b.void {
			return b.p + max(logical-b.l, 0)
		}
	}
	return w.end
}

// logical returns the logical offset of the record at a physical offset or of the next one, the end
// if there is none.
func (w *logTwin) logical(physical int64) int64 {
	for i := w.at(physical); i < len(w.batches); i++ {
		if b := w.batches[i]; !b.void {
			return b.l + max(physical-b.p, 0)
		}
	}
	return w.until
}

// over reports whether no record is at or above a physical offset.
func (w *logTwin) over(physical int64) bool {
	for _, b := range w.batches[w.at(physical):] {
		if !b.void {
			return false
		}
	}
	return true
}

// none reports whether no record is at or above from and below to.
func (w *logTwin) none(from, to int64) bool {
	for _, b := range w.batches[w.at(from):] {
		if !b.void && b.p < to {
			return false
		}
	}
	return true
}

// near reports whether a reader that is sent to from reaches to without meeting a record.
func (w *logTwin) near(from, to int64) bool { return from == to || from < to && w.none(from, to) }

// straight reports whether every physical offset from a place on holds the next logical one.
func (w *logTwin) straight(from span) bool {
	for _, b := range w.batches[w.at(from.physical):] {
		if b.void || b.l-b.p != from.shift() {
			return false
		}
	}
	return w.next-w.end == from.shift()
}

// own has p's owner read the log.
func (w *logTwin) own(t *rapid.T, p *Partition, until int64) {
	p.Own(w.end, w.next, until, w.straight(p.state.Load().start) && rapid.Bool().Draw(t, "straight"))
}

// at is the batch that holds a physical offset.
func (w *logTwin) at(physical int64) int {
	return sort.Search(len(w.batches), func(i int) bool { return w.batches[i].p+w.batches[i].n > physical })
}

// probe probes the twin's log. It teaches the first batch that counts from an offset on, and that
// no batch is before it; or the last batch that counts, and that none is behind it.
func (w *logTwin) probe(t *Partition, physical int64) {
	if physical == ProbeEnd {
		physical = w.end
	}
	if physical < w.start() {
		t.LearnStart(w.start())
		physical = w.start()
	}
	for _, b := range w.batches[w.at(physical):] {
		if !b.void {
			t.LearnProbe(b.p, b.l, b.n)
			if b.p > physical {
				t.LearnProbe(physical, b.l, 0)
			}
			return
		}
	}
	last := len(w.batches) - 1
	for last >= w.starts && w.batches[last].void {
		last--
	}
	if last >= w.starts {
		b := w.batches[last]
		t.LearnProbe(b.p, b.l, b.n)
		t.LearnProbe(w.end, b.l+b.n, 0)
	} else {
		t.LearnStart(w.end)
	}
	t.LearnEnd(w.end)
}

// seek finds a logical offset like a client of the timeline.
func (w *logTwin) seek(t *Partition, logical int64) (physical int64, probes int) {
	for end := false; ; {
		p, probe, ok := t.FindPhysical(logical, probes)
		if ok || probe == ProbeEnd && end {
			return p, probes
		}
		end = end || probe == ProbeEnd
		if probes++; probes > 64 {
			panic(fmt.Sprintf("logical %d is not found", logical))
		}
		w.probe(t, probe)
	}
}

// locate finds what is at a physical position.
func (w *logTwin) locate(t *Partition, physical int64) (logical int64, probes int) {
	for {
		l, probe, ok := t.FindLogical(physical)
		if ok {
			return l, probes
		}
		if probes++; probes > 3 {
			panic(fmt.Sprintf("physical %d is not found", physical))
		}
		w.probe(t, probe)
	}
}

func (w *logTwin) append(t *Partition, hole, n int64) {
	l := max(w.next, w.until) + hole
	if t != nil {
		t.Extend(w.end, l, n)
	}
	w.batches = append(w.batches, twinBatch{p: w.end, l: l, n: n})
	w.end, w.next, w.until = w.end+n, l+n, l+n
	if t != nil {
		t.SetPhysicalEnd(w.end)
	}
}

// checkKnown checks that, without any probe, the timeline returns nothing wrong, and nothing too
// high.
func (w *logTwin) checkKnown(t require.TestingT, p *Partition) {
	for l := w.floor; l <= w.until; l++ {
		got, _, ok := p.FindPhysical(l, 0)
		want := w.physical(l)
		switch {
		case got < w.start() && w.deleted(l): // out of range
		case !ok && w.deleted(l) && w.none(w.start(), got): // a bound: of the records below the log start none is left
		case ok && !w.near(got, want), got > want:
			t.Errorf("logical %d is physical %d (%v), want %d", l, got, ok, want)
			t.FailNow()
		}
	}
	for ph := w.start(); ph < w.end; ph++ {
		got, _, ok := p.FindRecord(ph)
		if i := w.at(ph); ok && !w.batches[i].void && got != max(w.logical(ph), w.floor) {
			t.Errorf("the record at physical %d is logical %d, want %d", ph, got, w.logical(ph))
			t.FailNow()
		}
	}
	seen, _ := p.PhysicalEnd()
	for ph := w.start(); ph <= w.end; ph++ {
		if seen < w.end && w.near(ph, seen) {
			continue // a former end is a position; FindRecord is more precise for it
		}
		got, _, ok := p.FindLogical(ph)
		want := max(w.logical(ph), w.floor)
		// At the end of the log: after the last record, or further.
		if atEnd := w.over(ph) && got >= max(w.next, w.floor) && got <= want; (ok && got != want && !atEnd && !w.over(w.start())) || got > want {
			t.Errorf("physical %d is logical %d (%v), want %d", ph, got, ok, want)
			t.FailNow()
		}
	}
}

// checkFound checks that everything is found.
func (w *logTwin) checkFound(t require.TestingT, p *Partition) {
	for l := w.floor; l < w.next; l++ {
		got, _ := w.seek(p, l)
		if want := w.physical(l); !w.near(got, want) && !(got < w.start() && w.deleted(l)) {
			t.Errorf("logical %d is found at %d, want %d", l, got, want)
			t.FailNow()
		}
	}
	for ph := w.start(); ph <= w.end; ph++ {
		got, _ := w.locate(p, ph)
		if w.over(w.start()) && got <= w.until {
			continue // no stamp is left that could say it
		}
		if want := max(w.logical(ph), w.floor); got != want && !(w.over(ph) && got >= max(w.next, w.floor) && got <= want) {
			t.Errorf("physical %d is found to be %d, want %d", ph, got, want)
			t.FailNow()
		}
	}
	got, _ := w.seek(p, w.until+1)
	if got != -1 && got <= w.end {
		t.Errorf("beyond the end %d is physical %d", w.until, got)
		t.FailNow()
	}
}

func TestRunsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		physical := rapid.Int64Range(0, 20).Draw(t, "physical")
		logical := rapid.Int64Range(0, 50).Draw(t, "logical")
		w := &logTwin{end: physical, next: logical, until: logical, floor: logical, first: span{physical: physical, logical: logical}}
		owner := New(physical, logical, logical)
		owner.Own(physical, logical, logical, true)
		reader := Open(physical, logical, logical) // another process, without announcements
		if rapid.Bool().Draw(t, "small") {
			owner.step, reader.step = 16, 16
		}
		stopped, straight := false, false
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				w.checkKnown(t, owner)
				w.checkKnown(t, reader)
			},
			"append": func(t *rapid.T) {
				n := rapid.Int64Range(1, 6).Draw(t, "records")
				if stopped {
					w.append(nil, 0, n)
					owner.SetPhysicalEnd(w.end)
					return
				}
				w.append(owner, rapid.Int64Range(0, 3).Draw(t, "hole"), n)
			},
			"announced in vain": func(t *rapid.T) {
				if stopped {
					t.Skip()
				}
				owner.Extend(w.end, max(w.next, w.until)+rapid.Int64Range(0, 2).Draw(t, "hole"), rapid.Int64Range(1, 6).Draw(t, "records"))
				// Before the owner reads its log again, no existing record may be translated
				// wrongly.
				for l := w.floor; l < w.next; l++ {
					if got, want := owner.ToPhysical(l), w.physical(l); got > want && !w.deleted(l) {
						t.Fatalf("logical %d is physical %d, want %d", l, got, want)
					}
				}
				w.own(t, owner, w.next)
				owner.SetLogicalEnd(w.until)
			},
			"hole at the end": func(t *rapid.T) {
				if stopped {
					t.Skip()
				}
				w.until = max(w.until, w.next+rapid.Int64Range(0, 3).Draw(t, "hole"))
				owner.SetLogicalEnd(w.until)
			},
			"checkpoint": func(t *rapid.T) {
				if !stopped {
					w.stored = w.until
					reader.LearnProbe(w.end, w.until, 0) // stored, and read
				}
			},
			"another owner": func(t *rapid.T) {
				if stopped {
					t.Skip()
				}
				if rapid.Bool().Draw(t, "announced in vain") {
					owner.Extend(w.end, max(w.next, w.until)+rapid.Int64Range(0, 2).Draw(t, "hole"), rapid.Int64Range(1, 6).Draw(t, "records"))
				}
				owner.Disown()
				w.stored = w.until
				owner, reader = reader, owner
				w.own(t, owner, w.until)
			},
			"void batch": func(t *rapid.T) {
				if stopped {
					t.Skip()
				}
				// A batch of another writer, at the end of the log, perhaps where the owner's batch
				// should have landed; then that is void too.
				announced := rapid.Bool().Draw(t, "announced")
				if announced {
					owner.Extend(w.end, max(w.next, w.until)+rapid.Int64Range(0, 2).Draw(t, "hole"), rapid.Int64Range(1, 4).Draw(t, "announced records"))
				}
				for range rapid.IntRange(1, 4).Draw(t, "batches") {
					n := rapid.Int64Range(1, 4).Draw(t, "records")
					w.batches = append(w.batches, twinBatch{p: w.end, n: n, void: true})
					if rapid.Bool().Draw(t, "met by a reader") {
						owner.LearnVoid(w.end, w.end+n)
						reader.LearnVoid(w.end, w.end+n)
					}
					w.end += n
				}
				for l := w.floor; l < w.next; l++ {
					if got, want := owner.ToPhysical(l), w.physical(l); got > want && !w.deleted(l) {
						t.Fatalf("logical %d is physical %d, want %d", l, got, want)
					}
				}
				w.own(t, owner, w.until)
			},
			"read a void batch": func(t *rapid.T) {
				if w.starts >= len(w.batches) {
					t.Skip()
				}
				if b := w.batches[rapid.IntRange(w.starts, len(w.batches)-1).Draw(t, "batch")]; b.void {
					owner.LearnVoid(b.p, b.p+b.n)
					reader.LearnVoid(b.p, b.p+b.n)
				}
			},
			"log start moves": func(t *rapid.T) {
				if len(w.batches) == 0 || w.next <= w.floor || stopped {
					t.Skip()
				}
				w.starts = rapid.IntRange(w.starts, len(w.batches)-1).Draw(t, "deleted")
				for w.starts < len(w.batches)-1 && w.batches[w.starts].void {
					w.starts++
				}
				if b := w.batches[w.starts]; !b.void && b.l > w.floor {
					// Where the record before ends, or in the hole between.
					below := w.floor
					for _, x := range w.batches[:w.starts] {
						if !x.void {
							below = max(below, x.l+x.n)
						}
					}
					w.floor = rapid.Int64Range(below, b.l).Draw(t, "floor")
					owner.Move(b.p, w.floor, w.floor)
					reader.Move(b.p, w.floor, w.floor)
				}
			},
			"read": func(t *rapid.T) {
				if w.starts >= len(w.batches) {
					t.Skip()
				}
				b := w.batches[rapid.IntRange(w.starts, len(w.batches)-1).Draw(t, "batch")]
				if !b.void {
					owner.Learn(b.p, b.l, b.n)
					reader.Learn(b.p, b.l, b.n)
				}
			},
			"seek": func(t *rapid.T) {
				if w.next == w.floor || len(w.batches) == 0 {
					t.Skip()
				}
				l := rapid.Int64Range(w.floor, max(w.floor, w.next-1)).Draw(t, "logical")
				for _, p := range []*Partition{owner, reader} {
					if got, _ := w.seek(p, l); !w.near(got, w.physical(l)) && !w.deleted(l) {
						t.Fatalf("logical %d is found at %d, want %d", l, got, w.physical(l))
					}
				}
			},
			"forget": func(*rapid.T) {
				for _, p := range []*Partition{owner, reader} {
					s := *p.state.Load()
					n := 0
					s.spans = s.spans.filter(func(*span) bool { n++; return n%2 == 0 })
					p.state.Store(&s)
					p.recent.Load().filter(func(span) bool { n++; return n%2 == 0 })
				}
			},
			"restart": func(t *rapid.T) {
				if !stopped {
					w.until = max(w.next, w.stored)
				}
				s := owner.state.Load()
				next := Open(s.start.physical, s.start.logical, w.floor)
				owner = next
				if stopped {
					owner.End(w.first.physical, w.first.logical, straight)
				} else {
					w.own(t, owner, w.until)
				}
				owner.SetPhysicalEnd(w.end)
			},
			"stop": func(t *rapid.T) {
				if stopped || len(w.batches) == 0 {
					t.Skip()
				}
				stopped = true
				// As the owner knows it. Another process has the same start, and reads the stored
				// end.
				straight = w.until == w.next && w.straight(owner.state.Load().start) && owner.state.Load().start == reader.state.Load().start
				owner.End(w.end, w.until, straight)
				reader.End(w.end, w.until, straight)
				w.next = w.until
				w.first = span{physical: w.end, logical: w.until}
			},
		})
		w.checkFound(t, owner)
		w.checkFound(t, reader)
		w.checkKnown(t, owner)
		w.checkKnown(t, reader)
	})
}

// size is what a partition holds, in bytes.
func (t *Partition) size() (bytes int) {
	s := t.state.Load()
	bytes = int(unsafe.Sizeof(*t) + unsafe.Sizeof(*s))
	bytes += len(s.spans) * int(unsafe.Sizeof(chunk{})+unsafe.Sizeof(&chunk{}))
	if t.recent.Load() != nil {
		bytes += int(unsafe.Sizeof(ring{}))
	}
	return bytes
}

// A topic with a million transactions is seekable anywhere within a handful of probes, in 64 KiB.
func TestMillionRuns(t *testing.T) {
	const runs = 1_000_000
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name    string
		hole, n func(int) int64
	}{
		{"one-record transactions", func(int) int64 { return 1 }, func(int) int64 { return 1 }},
		{"random holes and batches", func(int) int64 { return random.Int64N(4) }, func(int) int64 { return 1 + random.Int64N(10) }},
		{"compacted: ever fewer holes", func(i int) int64 {
			if random.IntN(runs) > i {
				return 1 + random.Int64N(1000)
			}
			return 0
		}, func(int) int64 { return 1 + random.Int64N(3) }},
		{"one gap of a billion", func(i int) int64 {
			if i == runs/3 {
				return 1_000_000_000
			}
			return int64(i % 2)
		}, func(int) int64 { return 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &logTwin{}
			p := New(0, 0, 0)
			p.Own(0, 0, 0, true)
			for i := range runs {
				w.append(p, c.hole(i), c.n(i))
			}
			again := Open(0, 0, 0) // after a restart
			for name, p := range map[string]*Partition{"owner": p, "after a restart": again} {
				fetches, total, most := 0, 0, 0
				check := func(l int64) int64 {
					got, probes := w.seek(p, l)
					require.Equal(t, w.physical(l), got, "logical %d", l)
					fetches, total, most = fetches+1, total+probes, max(most, probes)
					return got
				}
				if p == again {
					for _, l := range []int64{0, w.next / 2, w.next - 1, 1, w.next / 3} {
						check(l)
					}
				}
				for range 5_000 {
					check(random.Int64N(w.next))
				}
				require.LessOrEqual(t, most, 24)
				require.LessOrEqual(t, p.size(), 64<<10)
				t.Logf("%s: %d seeks, %.2f probes on average, %d at most; %d bytes", name, fetches, float64(total)/float64(fetches), most, p.size())

				// A sequential reader finds its place without a probe, whatever others do.
				at := w.at(w.physical(w.next / 2))
				for _, b := range w.batches[at : at+1000] {
					p.Learn(b.p, b.l, b.n)
					check(random.Int64N(w.next))
					if got, probes := w.seek(p, b.l+b.n); probes > 0 || got != b.p+b.n {
						t.Fatalf("behind the batch at %d: %d probes", b.p, probes)
					}
					if got, probes := w.seek(p, b.l); probes > 0 || got != b.p {
						t.Fatalf("the batch at %d: %d probes", b.p, probes)
					}
				}
			}
		})
	}
}

// An offset that is found for the first time costs no more than halving the log.
func TestWorstSeek(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	w := &logTwin{}
	for i := range 1_000_000 {
		hole := int64(0)
		if i%1000 == 0 {
			hole = int64(math.Exp(random.Float64() * 20))
		}
		w.append(nil, hole, 1)
	}
	most, total := 0, 0
	const seeks = 2000
	for range seeks {
		p := Open(0, 0, 0)
		w.probe(p, ProbeEnd)
		b := w.batches[random.IntN(len(w.batches))]
		got, probes := w.seek(p, b.l)
		require.Equal(t, b.p, got)
		most, total = max(most, probes), total+probes
	}
	require.LessOrEqual(t, most, 24)
	t.Logf("%.2f probes on average, %d at most", float64(total)/seeks, most)
}

// TestReadersOfRuns checks, under the race detector too, that readers never get too high an offset
// while the owner appends.
func TestReadersOfRuns(t *testing.T) {
	const rounds = 30_000
	p := New(0, 0, 0)
	p.Own(0, 0, 0, true)
	// Batch i: 3 records at physical 3i, logical 5i.
	var appended sync.WaitGroup
	done := make(chan struct{})
	for g := range 4 {
		appended.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 9))
			for {
				select {
				case <-done:
					return
				default:
				}
				end, _ := p.LogicalEnd()
				i := random.Int64N(end/5 + 1)
				for d := range int64(5) {
					got, _, ok := p.FindPhysical(5*i+d, 0)
					want := 3*i + min(d, 3)
					if got > want || ok && got != want && 5*i+d < end {
						t.Errorf("logical %d is physical %d (%v), want %d", 5*i+d, got, ok, want)
						return
					}
				}
				if got, _, ok := p.FindLogical(3 * i); got > 5*i || ok && got != 5*i && 5*i < end-2 {
					t.Errorf("physical %d is logical %d (%v), want %d", 3*i, got, ok, 5*i)
					return
				}
				if 5*i < end-3 {
					p.Learn(3*i, 5*i, 3)
				}
				if i%64 == 0 && 5*i < end-3 {
					p.LearnProbe(3*i, 5*i, 3)
				}
			}
		})
	}
	for i := range int64(rounds) {
		p.Extend(3*i, 5*i, 3)
		p.SetPhysicalEnd(3*i + 3)
		if i%100 == 0 {
			p.Own(3*i+3, 5*i+3, 5*i+3, false)
		}
	}
	close(done)
	appended.Wait()
}

func TestFindingDoesNotAllocate(t *testing.T) {
	p := New(0, 0, 0)
	p.Own(0, 0, 0, true)
	for i := range int64(5000) {
		p.Extend(3*i, 5*i, 3)
		p.Learn(3*i, 5*i, 3)
	}
	sum, at := int64(0), int64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Extend(15_000+at, 25_000+at, 3) // the run goes on
		at += 3
		a, _, _ := p.FindPhysical(7777, 0)
		b, _, _ := p.FindLogical(7777)
		p.Learn(60, 100, 3)
		sum += a + b
	}))
	require.NotZero(t, sum)
}

func BenchmarkExtend(b *testing.B) {
	p := New(0, 0, 0)
	p.Own(0, 0, 0, true)
	for i := int64(0); b.Loop(); i++ {
		p.Extend(3*i, 5*i, 3)
	}
}

func BenchmarkFindPhysical(b *testing.B) {
	for _, readers := range []bool{false, true} {
		p := New(0, 0, 0)
		p.Own(0, 0, 0, true)
		for i := range int64(5_000_000) {
			p.Extend(3*i, 5*i, 3)
		}
		if readers {
			for i := range int64(1000) {
				p.Learn(3*i*9, 5*i*9, 3)
			}
		}
		b.Run(fmt.Sprintf("readers=%v", readers), func(b *testing.B) {
			for b.Loop() {
				p.FindPhysical(123_456, 0)
			}
		})
	}
}

// TestTheLogStartIsNotOutOfRange: the floor is the first record that is left of a batch, in a log
// of many runs. Only a checkpoint near the end and the log start offset are known. Once that floor
// was reported as below the log start offset.
func TestTheLogStartIsNotOutOfRange(t *testing.T) {
	p := Open(0, 10, 17)
	p.LearnProbe(80, 108, 0)
	p.LearnStart(7)
	if at, probe, ok := p.FindPhysical(17, 0); ok || at != 7 || probe != 7 {
		t.Errorf("the floor is at physical offset %d, %v, probe %d; want a look at 7", at, ok, probe)
	}
	whole, next := Open(0, 10, 17), Open(0, 10, 17)
	for _, p := range []*Partition{whole, next} {
		p.LearnProbe(80, 108, 0)
		p.LearnStart(7)
	}
	whole.LearnProbe(0, 10, 10) // the batch that holds the log start
	if at, _, ok := whole.FindPhysical(17, 1); !ok || at != 7 {
		t.Errorf("the floor is at physical offset %d, %v, want 7", at, ok)
	}
	next.LearnProbe(7, 25, 3) // that of the floor was deleted
	if at, _, ok := next.FindPhysical(17, 1); !ok || at >= 7 {
		t.Errorf("a deleted record is at physical offset %d, %v, want one below the log start", at, ok)
	}
}
