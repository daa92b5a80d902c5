package replicator

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"klink/replicator/core"
)

const (
	// smallUnits and smallBytes are the size from which a request is worth sending on its own. The
	// fixed cost of a smaller one, to a broker and to klink, exceeds the cost of its content.
	smallUnits = 16
	smallBytes = 64 << 10
	// combinePatience is how long a small request waits for the answer to another one.
	combinePatience = 10 * time.Millisecond
)

// combiner puts what many partitions have to append at one broker into few requests. A broker takes
// one batch of a partition per request, so a log of small batches is mirrored fast only if each
// request has a batch of every waiting partition. The same goes for markers. The combiner knows no
// connections: each connection has a lane (stream.go), which asks for a request with next, sends
// the units of its workers, and reports progress with answered and done.
//
// While a request is out, the combiner collects what becomes ready, and the next request takes all
// of it (as Nagle's algorithm does with segments). Two rules keep this from costing time:
//
//   - Units that are more than a small request do not wait for an answer, only for a free
//     connection.
//   - No unit waits longer than combinePatience for the answer to another request, and none waits
//     for a request that has been out that long. So a partition that lacks replicas holds up only
//     those in the same request.
//
// A request has units of one kind: the kind of the unit that has waited longest. In a log of
// transactions batches and markers alternate. A partition that is out of step with others falls in
// with them, because its next unit is of their kind and younger than theirs.
//
// Invariants:
//  1. Each push gives the worker out once, in the order of the pushes of a kind.
//  2. What a partition has in flight goes over one connection, in order: a unit, or a window of
//     units, which a lane sends as several requests without a pause (window.go). The core ensures
//     this (invariant 1 of partition): it gives out nothing else before it has the result. So two
//     requests cannot overtake each other, and a partition may use another connection each time.
//  3. At most lanes requests are out. next gives out each of them, and done ends it.
//  4. While something waits, a lane will ask for it. Either kick is set; or a request is being
//     answered or all lanes are taken, and the lane asks after done; or a lane asks again after a
//     time (watched).
type combiner struct {
	lanes int
	kick  chan struct{} // of capacity 1

	mu      sync.Mutex
	queues  [core.UnitKinds]unitQueue
	pushes  uint64
	out     []*request // in the order in which they were given
	spare   []*request // done, for reuse
	watched bool
}

// unitQueue is the units of one kind that wait, in order.
type unitQueue struct {
	list  []waitingUnit
	bytes int
}

type waitingUnit struct {
	w *worker
	// bytes and markers are the unit's at the time of the push. It may have grown since.
	bytes, markers int
	since          time.Time
	nth            uint64 // number of the push
}

// request is what next gives out: workers whose units a lane sends together.
type request struct {
	kind    core.UnitKind
	workers []*worker // each has a unit to take
	since   time.Time
	// answering is set while the results are being delivered. What becomes ready in that time is
	// collected until done.
	answering bool
}

func newCombiner(lanes int) *combiner { return &combiner{lanes: lanes, kick: make(chan struct{}, 1)} }

// push queues a worker whose next unit is i. It does not block.
func (c *combiner) push(w *worker, i core.Item, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := waitingUnit{w: w, bytes: len(i.Bytes), since: now, nth: c.pushes}
	if i.Markers() {
		u.markers = int(i.Records)
	}
	c.pushes++
	q := &c.queues[i.Kind()]
	q.list = append(q.list, u)
	q.bytes += u.bytes
	if !q.small() || len(c.out) == 0 || !c.watched && !c.answering() {
		c.signal()
	}
}

// next waits until there is a request to send, and returns it; nil if ctx ends.
func (c *combiner) next(ctx context.Context) *request {
	for {
		r, again := c.take(time.Now())
		if r != nil {
			return r
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-c.kick:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
	}
}

// take returns a request to send. If it is nil, ask again when kick is set, and after the returned
// time if that is not 0.
func (c *combiner) take(now time.Time) (*request, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched = false
	if len(c.out) == c.lanes {
		return nil, 0
	}
	q, kind, again := c.oldest(now)
	if q == nil {
		c.watched = again > 0
		return nil, again
	}
	var r *request
	if n := len(c.spare) - 1; n >= 0 {
		r, c.spare = c.spare[n], c.spare[:n]
	} else {
		r = &request{}
	}
	*r = request{kind: kind, workers: q.take(r.workers[:0]), since: now}
	c.out = append(c.out, r)
	if len(c.queues[core.BatchUnits].list)+len(c.queues[core.MarkerUnits].list) > 0 {
		c.signal()
	}
	return r, 0
}

// hold returns how long the units of a queue must wait for the answers to other requests: untilDone
// while results are being delivered.
func (c *combiner) hold(q *unitQueue, now time.Time) time.Duration {
	if len(c.out) == 0 || !q.small() {
		return 0
	}
	if c.answering() {
		return untilDone
	}
	waits, out := now.Sub(q.list[0].since), now.Sub(c.out[len(c.out)-1].since)
	return max(0, combinePatience-max(waits, out))
}

// untilDone is beyond every other wait.
const untilDone = time.Duration(math.MaxInt64)

func (c *combiner) answering() bool {
	return slices.ContainsFunc(c.out, func(r *request) bool { return r.answering })
}

// oldest returns the queue whose first unit has waited longest, of those that need not wait now. If
// there is none, again is the time until there will be one; 0 = no lapse of time makes one ready.
func (c *combiner) oldest(now time.Time) (oldest *unitQueue, kind core.UnitKind, again time.Duration) {
	again = untilDone
	for k := range core.UnitKinds {
		q := &c.queues[k]
		if len(q.list) == 0 {
			continue
		}
		if wait := c.hold(q, now); wait > 0 {
			again = min(again, wait)
		} else if oldest == nil || q.list[0].nth < oldest.list[0].nth {
			oldest, kind = q, k
		}
	}
	if again == untilDone {
		again = 0
	}
	return oldest, kind, again
}

// answered records that results of a request are about to be delivered.
func (c *combiner) answered(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.answering = true
}

// done takes a request back after all its results were delivered. The caller then calls next at
// once, or never again.
func (c *combiner) done(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.out, r); i >= 0 {
		c.out = slices.Delete(c.out, i, i+1)
		clear(r.workers)
		c.spare = append(c.spare, r)
	}
}

// signal makes a lane that waits in next look again.
func (c *combiner) signal() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (q *unitQueue) small() bool { return len(q.list) < smallUnits && q.bytes < smallBytes }

// take appends to workers as many as fit in one request, at least one.
func (q *unitQueue) take(workers []*worker) []*worker {
	n, bytes, markers := 0, 0, 0
	for n < len(q.list) && n < maxProducePartitions && bytes < maxProduceBytes {
		u := q.list[n]
		if n > 0 && markers+u.markers > core.MaxRequestMarkers {
			break
		}
		workers = append(workers, u.w)
		bytes, markers = bytes+u.bytes, markers+u.markers
		n++
	}
	q.bytes -= bytes
	rest := copy(q.list, q.list[n:])
	clear(q.list[rest:])
	q.list = q.list[:rest]
	return workers
}
