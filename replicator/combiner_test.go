package replicator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"klink/replicator/core"

	"pgregory.net/rapid"
)

func batchOf(bytes int) core.Item { return core.Item{Bytes: make([]byte, bytes), Records: 1} }
func markersOf(n int32) core.Item { return core.Item{Records: n} }
func testWorker(n int) *worker    { return &worker{id: int32(n)} }

// pushN queues n new workers.
func pushN(c *combiner, n int, i core.Item, now time.Time) {
	for range n {
		c.push(testWorker(0), i, now)
	}
}

// wantRequest asks the combiner for a request and checks it; workers = 0 means none.
func wantRequest(t *testing.T, c *combiner, now time.Time, kind core.UnitKind, workers int, again time.Duration) *request {
	t.Helper()
	r, wait := c.take(now)
	switch {
	case workers == 0 && (r != nil || wait != again):
		t.Fatalf("got %+v and ask again after %v, want none and %v", r, wait, again)
	case workers > 0 && (r == nil || r.kind != kind || len(r.workers) != workers):
		t.Fatalf("got %+v, want %d of kind %d", r, workers, kind)
	}
	return r
}

// TestCombinerCollects: all units that become ready while a small request is out go in the next
// one.
func TestCombinerCollects(t *testing.T) {
	c, now := newCombiner(3), time.Now()
	wantRequest(t, c, now, 0, 0, 0)
	c.push(testWorker(1), batchOf(100), now)
	first := wantRequest(t, c, now, core.BatchUnits, 1, 0) // nothing is out, so it goes at once
	pushN(c, 5, batchOf(100), now)
	pushN(c, 2, markersOf(1), now)
	wantRequest(t, c, now.Add(time.Millisecond), 0, 0, combinePatience-time.Millisecond)
	c.answered(first)
	pushN(c, 1, markersOf(1), now) // the first one's next
	wantRequest(t, c, now.Add(time.Hour), 0, 0, 0)
	c.done(first)
	second := wantRequest(t, c, now, core.BatchUnits, 5, 0)
	c.answered(second)
	pushN(c, 5, markersOf(1), now)
	c.done(second)
	third := wantRequest(t, c, now, core.MarkerUnits, 8, 0) // they were out of step, and now are not
	c.answered(third)
	pushN(c, 8, batchOf(100), now)
	c.done(third)
	wantRequest(t, c, now, core.BatchUnits, 8, 0)
}

// TestCombinerDoesNotHold: large requests wait for a lane only, and small ones do not wait for an
// answer that takes long.
func TestCombinerDoesNotHold(t *testing.T) {
	c, now := newCombiner(3), time.Now()
	c.push(testWorker(0), batchOf(100), now)
	stuck := wantRequest(t, c, now, core.BatchUnits, 1, 0)
	c.push(testWorker(0), batchOf(100), now)
	c.push(testWorker(0), markersOf(1), now)
	c.push(testWorker(0), batchOf(smallBytes), now)
	large := wantRequest(t, c, now, core.BatchUnits, 2, 0)
	c.answered(large)
	c.done(large)
	now = now.Add(combinePatience)
	small := wantRequest(t, c, now, core.MarkerUnits, 1, 0)
	pushN(c, smallUnits, markersOf(1), now)
	wantRequest(t, c, now, core.MarkerUnits, smallUnits, 0)
	pushN(c, smallUnits, markersOf(1), now)
	wantRequest(t, c, now.Add(time.Hour), 0, 0, 0) // no lane
	c.done(small)
	wantRequest(t, c, now, core.MarkerUnits, smallUnits, 0)
	c.done(stuck)
	now = now.Add(combinePatience)
	c.push(testWorker(0), batchOf(100), now)
	wantRequest(t, c, now, core.BatchUnits, 1, 0) // the others have been out for too long
}

// TestCombinerLimits: a request has as much as fits in one.
func TestCombinerLimits(t *testing.T) {
	c, now := newCombiner(100), time.Now()
	pushN(c, 3, batchOf(maxProduceBytes/2), now)
	wantRequest(t, c, now, core.BatchUnits, 2, 0)
	wantRequest(t, c, now, core.BatchUnits, 1, 0)
	pushN(c, maxProducePartitions+100, batchOf(100), now)
	wantRequest(t, c, now, core.BatchUnits, maxProducePartitions, 0)
	wantRequest(t, c, now, core.BatchUnits, 100, 0)
	c = newCombiner(100)
	c.push(testWorker(0), markersOf(core.MaxRequestMarkers+1), now) // has grown
	wantRequest(t, c, now, core.MarkerUnits, 1, 0)
	pushN(c, 100, markersOf(core.MaxRequestMarkers/40), now)
	wantRequest(t, c, now, core.MarkerUnits, 40, 0)
}

// TestCombinerOrder: of two kinds, the one whose first unit has waited longest goes first, and the
// other one alone soon after.
func TestCombinerOrder(t *testing.T) {
	c, now := newCombiner(2), time.Now()
	first := wantFirst(t, c, now)
	pushN(c, 3, markersOf(1), now)
	pushN(c, 3, batchOf(100), now)
	c.done(first)
	wantRequest(t, c, now, core.MarkerUnits, 3, 0)
	wantRequest(t, c, now, 0, 0, combinePatience)
	wantRequest(t, c, now.Add(combinePatience), core.BatchUnits, 3, 0)
}

// TestCombinerWakes: a lane that had to ask again after a time, and was given a request before
// that, no longer watches.
func TestCombinerWakes(t *testing.T) {
	c, now := newCombiner(2), time.Now()
	first := wantFirst(t, c, now)
	woken := func() bool {
		select {
		case <-c.kick:
			return true
		default:
			return false
		}
	}
	woken()
	c.push(testWorker(0), batchOf(100), now)
	if !woken() {
		t.Error("nobody was told of a unit")
	}
	wantRequest(t, c, now, 0, 0, combinePatience)
	c.push(testWorker(0), batchOf(100), now)
	if woken() {
		t.Error("a unit needed telling though somebody will ask")
	}
	c.done(first)
	wantRequest(t, c, now, core.BatchUnits, 2, 0)
	c.push(testWorker(0), batchOf(100), now)
	if !woken() {
		t.Error("nobody was told of a unit, and nobody watches")
	}
}

// wantFirst makes the combiner send one unit.
func wantFirst(t *testing.T, c *combiner, now time.Time) *request {
	t.Helper()
	c.push(testWorker(0), batchOf(100), now)
	return wantRequest(t, c, now, core.BatchUnits, 1, 0)
}

// combinerWorld runs partitions that append units through a combiner. Answers of its lanes take
// time, are lost, or have a result for some units only. It notes what breaks an invariant.
type combinerWorld struct {
	c     *combiner
	lanes int

	mu       sync.Mutex
	units    map[*worker]*combinerUnits
	requests int
	out      int
	free     time.Time // since when a lane has been free
	broken   []string
}

// combinerUnits is one partition: it appends units of its own, one after the other.
type combinerUnits struct {
	list   []core.Item
	pushed bool
	since  time.Time // of the push
	flying bool
}

func (cw *combinerWorld) breaks(format string, args ...any) {
	cw.broken = append(cw.broken, fmt.Sprintf(format, args...))
}

// ready pushes a partition's next unit; mu is held.
func (cw *combinerWorld) ready(w *worker) {
	u := cw.units[w]
	if len(u.list) > 0 {
		u.pushed, u.since = true, time.Now()
		cw.c.push(w, u.list[0], u.since)
	}
}

// lane sends requests. answer returns how long each takes, and whether its answer is lost.
func (cw *combinerWorld) lane(ctx context.Context, answer func() (time.Duration, bool), part func() bool) {
	for {
		r := cw.c.next(ctx)
		if r == nil {
			return
		}
		cw.mu.Lock()
		cw.requests++
		cw.out++
		if cw.out > cw.lanes {
			cw.breaks("%d requests are out", cw.out)
		}
		for _, w := range r.workers {
			u := cw.units[w]
			switch {
			case u.flying:
				cw.breaks("partition %d has two units on their way", w.id)
			case !u.pushed:
				cw.breaks("partition %d is given out without a push", w.id)
			case u.list[0].Kind() != r.kind:
				cw.breaks("a unit of kind %d in a request of kind %d", u.list[0].Kind(), r.kind)
			}
			since := u.since
			if since.Before(cw.free) {
				since = cw.free
			}
			if time.Since(since) > combinePatience {
				cw.breaks("a unit waited for %v while a lane was free", time.Since(since))
			}
			u.pushed, u.flying = false, true
		}
		cw.mu.Unlock()
		took, lost := answer()
		time.Sleep(took)
		cw.c.answered(r)
		for _, w := range r.workers {
			cw.mu.Lock()
			u := cw.units[w]
			u.flying = false
			if lost || part() {
				// Like a worker that reads the log: it finds the unit there or not, and goes on
				// after a while.
				time.AfterFunc(settleGrace, func() {
					cw.mu.Lock()
					defer cw.mu.Unlock()
					cw.ready(w)
				})
			} else {
				u.list = u.list[1:]
				cw.ready(w)
			}
			cw.mu.Unlock()
		}
		cw.mu.Lock()
		if cw.out--; cw.out == cw.lanes-1 {
			cw.free = time.Now()
		}
		cw.mu.Unlock()
		cw.c.done(r)
	}
}

// TestCombinerLosesNothing: whatever answers do, every unit is sent, in order, one of a partition
// at a time, and no unit waits for long while a lane is free. If a wake-up were lost all goroutines
// would sleep, which synctest reports.
func TestCombinerLosesNothing(t *testing.T) {
	checkProperty(t, func(ctx context.Context, t *rapid.T) {
		cw := &combinerWorld{lanes: rapid.IntRange(1, 4).Draw(t, "lanes"), units: map[*worker]*combinerUnits{}}
		cw.c = newCombiner(cw.lanes)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var rngMu sync.Mutex
		chance := func(of int) int { rngMu.Lock(); defer rngMu.Unlock(); return rng.IntN(of) }
		for n := range rapid.IntRange(1, 2*smallUnits).Draw(t, "partitions") {
			u := &combinerUnits{}
			for i := range 1 + chance(20) {
				switch {
				case i%2 == 1:
					u.list = append(u.list, markersOf(1+int32(chance(5))))
				case chance(20) == 0:
					u.list = append(u.list, batchOf(smallBytes))
				default:
					u.list = append(u.list, batchOf(100))
				}
			}
			cw.units[testWorker(n)] = u
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answer := func() (time.Duration, bool) {
			if chance(30) == 0 {
				return 10 * time.Second, chance(2) == 0 // too few replicas, or the broker is down
			}
			return time.Duration(chance(15_000)) * time.Microsecond, chance(10) == 0
		}
		for range cw.lanes {
			go cw.lane(ctx, answer, func() bool { return chance(50) == 0 })
		}
		for w := range cw.units {
			cw.mu.Lock()
			cw.ready(w)
			cw.mu.Unlock()
		}
		for left := true; left; {
			time.Sleep(time.Second)
			cw.mu.Lock()
			left = false
			for w, u := range cw.units {
				left = left || len(u.list) > 0
				if u.pushed && time.Since(u.since) > time.Hour {
					t.Fatalf("the unit of partition %d has been waiting for an hour, with %d requests out", w.id, cw.out)
				}
			}
			cw.mu.Unlock()
		}
		cw.mu.Lock()
		defer cw.mu.Unlock()
		if len(cw.broken) > 0 {
			t.Fatal(cw.broken)
		}
	})
}

// TestCombinerKeepsStep: partitions of one-record transactions start at different times, and soon
// share all requests.
func TestCombinerKeepsStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, each = 24, 1000
		cw := &combinerWorld{lanes: 3, units: map[*worker]*combinerUnits{}, c: newCombiner(3)}
		ctx, cancel := context.WithCancel(t.Context())
		for range cw.lanes {
			go cw.lane(ctx, func() (time.Duration, bool) { return time.Millisecond, false }, func() bool { return false })
		}
		for n := range partitions {
			u := &combinerUnits{}
			for range each / 2 {
				u.list = append(u.list, batchOf(100), markersOf(1))
			}
			w := testWorker(n)
			cw.mu.Lock()
			cw.units[w] = u
			cw.ready(w)
			cw.mu.Unlock()
			time.Sleep(700 * time.Microsecond)
		}
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		for _, u := range cw.units {
			if len(u.list) > 0 {
				t.Fatalf("%d units are left", len(u.list))
			}
		}
		if cw.requests > each*11/10 || len(cw.broken) > 0 {
			t.Errorf("%d units of each of %d partitions took %d requests; %v", each, partitions, cw.requests, cw.broken)
		}
	})
}
