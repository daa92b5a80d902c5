package timeline

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestToPhysical(t *testing.T) {
	for _, c := range []struct {
		name                     string
		physical, logical, floor int64
		end                      int64 // -1 = not published
		ask, want                int64
	}{
		{name: "aligned", ask: 7, want: 7, end: 10},
		{name: "shifted", logical: 100, floor: 100, end: 50, ask: 120, want: 20},
		{name: "the floor of an empty log", logical: 100, floor: 100, ask: 100, want: 0},
		{name: "below the floor", logical: 100, floor: 100, end: 50, ask: 99, want: -1},
		{name: "below a floor that has risen", logical: 100, floor: 120, end: 50, ask: 110, want: -1},
		{name: "at the end", logical: 100, floor: 100, end: 50, ask: 150, want: 50},
		{name: "beyond the end is the broker's to refuse", logical: 100, floor: 100, end: 50, ask: 151, want: 51},
		{name: "log start inside a batch that is not there yet", logical: 95, floor: 100, end: 0, ask: 100, want: 0},
		{name: "log start inside a batch that is there", logical: 95, floor: 100, end: 10, ask: 100, want: 5},
		{name: "beyond the floor of a log that is empty", logical: 95, floor: 100, end: 0, ask: 101, want: 6},
		{name: "between the floor and the first record", logical: 110, floor: 100, end: 5, ask: 103, want: 0},
		{name: "negative shift", physical: 1000, logical: 0, end: 1010, ask: 3, want: 1003},
		{name: "negative offset", ask: -1, want: -1, end: 10},
		{name: "any negative offset", logical: 5, ask: -2, want: -1, end: 10},
		{name: "largest offset", logical: 100, floor: 100, end: 50, ask: math.MaxInt64, want: math.MaxInt64 - 100},
		{name: "largest offset, negative shift", physical: 1000, end: 1001, ask: math.MaxInt64, want: math.MaxInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(c.physical, c.logical, c.floor)
			if c.end >= 0 {
				p.SetPhysicalEnd(c.end)
			}
			require.Equal(t, c.want, p.ToPhysical(c.ask))
		})
	}
}

func TestToLogical(t *testing.T) {
	p := New(0, 95, 100)
	for _, c := range []struct{ physical, position, base int64 }{
		{-1, -1, -1}, // unknown
		{-2, -2, -2},
		{0, 100, 95}, // never a position below the floor, but a batch may begin there
		{4, 100, 99},
		{5, 100, 100},
		{6, 101, 101},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		require.Equal(t, c.position, p.ToLogical(c.physical), "position %d", c.physical)
		require.Equal(t, c.base, p.BaseToLogical(c.physical), "base offset %d", c.physical)
	}
	require.Equal(t, int64(95), p.Shift())
	require.Equal(t, int64(100), p.Floor())
}

// twin is a mirror partition that remembers every record: dumb, and right by construction.
type twin struct {
	physical  map[int64]int64 // of every logical offset that has a record
	physStart int64           // the first physical offset there can be a record at
	next      int64           // logical offset of the next append
	end       int64           // physical log end
	floor     int64
}

func (w *twin) toPhysical(logical int64) int64 {
	p, ok := w.physical[logical]
	switch {
	case logical < w.floor:
		return -1
	case ok:
		return p
	case logical <= w.floor || logical == w.next:
		return w.end // not there yet
	}
	return math.MinInt64 // beyond the end: anything that is beyond it
}

func (w *twin) toLogical(physical int64) int64 {
	for l, p := range w.physical {
		if p == physical {
			return max(l, w.floor)
		}
	}
	return max(w.next, w.floor) // the end
}

func TestPartitionAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		physical := rapid.Int64Range(0, 50).Draw(t, "physical")
		floor := rapid.Int64Range(0, 1000).Draw(t, "floor")
		p := New(physical, floor, floor) // as thought before the first batch
		p.SetPhysicalEnd(physical)
		w := &twin{physical: map[int64]int64{}, physStart: physical, next: floor, end: physical, floor: floor}

		check := func(t *rapid.T) {
			for l := int64(-2); l < w.next+10; l++ {
				got, want := p.ToPhysical(l), w.toPhysical(l)
				if want == math.MinInt64 && got <= w.end || want != math.MinInt64 && got != want {
					t.Fatalf("logical %d is physical %d, want %d; %+v", l, got, want, w)
				}
			}
			for ph := w.physStart; ph <= w.end; ph++ {
				if got, want := p.ToLogical(ph), w.toLogical(ph); got != want {
					t.Fatalf("physical %d is logical %d, want %d; %+v", ph, got, want, w)
				}
			}
			for l, ph := range w.physical {
				if got := p.BaseToLogical(ph); got != l {
					t.Fatalf("base offset %d is logical %d, want %d", ph, got, l)
				}
			}
		}
		check(t)
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"first batch": func(t *rapid.T) {
				if len(w.physical) > 0 || w.end > w.physStart {
					t.Skip("only the first")
				}
				// The batch that holds the source's log start begins below it.
				below := rapid.Int64Range(0, min(20, w.floor)).Draw(t, "below")
				p.Set(w.floor-below-w.end, w.floor)
				w.next = w.floor - below
			},
			"append": func(t *rapid.T) {
				// A batch that reaches the floor, because the source sends none that ends below it.
				n := max(w.floor-w.next+1, rapid.Int64Range(1, 30).Draw(t, "records"))
				for range n {
					w.physical[w.next] = w.end
					w.next, w.end = w.next+1, w.end+1
				}
				p.SetPhysicalEnd(w.end)
			},
			"log start moves": func(t *rapid.T) {
				if w.next <= w.floor {
					t.Skip("nothing mirrored above the log start")
				}
				w.floor = rapid.Int64Range(w.floor, w.next).Draw(t, "floor")
				for l := range w.physical {
					if l < w.floor {
						delete(w.physical, l) // hidden, then deleted
					}
				}
				w.physStart = w.end - int64(len(w.physical))
				p.Set(p.Shift(), w.floor)
			},
		})
	})
}

// TestReadersWhileOwnerWrites checks, under the race detector, that readers only ever see a
// timeline that was published. An answer from a mixture of two timelines would fit neither.
func TestReadersWhileOwnerWrites(t *testing.T) {
	const rounds = 20_000
	p := New(0, 1000, 1000)
	p.SetPhysicalEnd(0)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			floor := int64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				if f := p.Floor(); f < floor {
					t.Errorf("the floor fell from %d to %d", floor, f)
					return
				} else {
					floor = f
				}
				// Shift and floor move together. So the physical position of the floor is always 0,
				// or refused for a reader that has an older floor.
				if ph := p.ToPhysical(floor); ph != 0 && ph != -1 {
					t.Errorf("the floor %d is physical %d", floor, ph)
					return
				}
				if l := p.ToLogical(0); l < floor {
					t.Errorf("position 0 is %d, below the floor %d", l, floor)
					return
				}
			}
		})
	}
	for i := int64(1); i <= rounds; i++ {
		p.Set(1000+i, 1000+i)
	}
	close(done)
	wg.Wait()
	require.Equal(t, int64(1000+rounds), p.Floor())
}

func TestTranslatingDoesNotAllocate(t *testing.T) {
	p := New(0, 100, 100)
	var sum int64
	require.Zero(t, testing.AllocsPerRun(100, func() {
		sum += p.ToPhysical(120) + p.ToLogical(5) + p.BaseToLogical(5)
	}))
	require.NotZero(t, sum)
}

// A reader that has translated an offset learns whether it still means the same record.
func TestChangedSince(t *testing.T) {
	p, other := New(0, 100, 100), New(0, 100, 100)
	before := Clock()
	p.Set(100, 150) // the floor alone
	p.SetPhysicalEnd(3)
	require.Equal(t, before, Clock())
	require.False(t, p.ChangedSince(before))
	p.Set(90, 150)
	require.True(t, p.ChangedSince(before))
	require.False(t, other.ChangedSince(before))
	after := Clock()
	require.NotEqual(t, before, after)
	require.False(t, p.ChangedSince(after))
	// The clock as a reader may have read it while the shift was being changed.
	require.True(t, p.ChangedSince(after-1))
}
