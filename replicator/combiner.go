package replicator

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// smallUnits and smallBytes are where a request begins to be worth sending for itself. One of
	// less costs a broker, and klink, more for being a request than for what is in it.
	smallUnits = 16
	smallBytes = 64 << 10
	// combinePatience is how long a small request waits for the answer to another one.
	combinePatience = 10 * time.Millisecond
)

// unitKind is the kind of request that a unit goes in: Produce or WriteTxnMarkers.
type unitKind uint8

const (
	batchUnits unitKind = iota
	markerUnits
	unitKinds // how many there are
)

// combiner puts what many partitions have to append at one broker into few requests. A broker takes
// one batch of a partition per request, so a log of small batches is mirrored fast only if a
// request has a batch of every partition that waits; the same goes for markers. The combiner knows
// no connections: who has one asks for a request with next, sends what the workers in it give, and
// tells with answered and done how far that is.
//
// While a request is out, what becomes ready is collected, and the next request has all of it (as
// Nagle's algorithm does with segments). Nothing is to be lost by that:
//
//   - Units that are no small request wait for no answer, but only for a free connection.
//   - No unit waits for longer than combinePatience for the answer to another request, and nobody
//     waits for one that has been out for so long. So a partition that lacks replicas holds up
//     those in the same request, and nobody else.
//
// A request has units of one kind, that of the unit which waits longest. A log of transactions has
// a batch, a marker, a batch and so on: a partition that is out of step with others falls in with
// them, as its next unit is of their kind and younger than theirs.
//
// Invariants:
//  1. Each push gives the worker out once, in the order of the pushes of a kind.
//  2. What a partition has on its way goes over one connection, in order: a unit, or a window of
//     them, which a lane sends as several requests without a pause (window.go). That is the core's
//     doing (invariant 1 of partition), which gives no other before it was told the result. So two
//     requests cannot overtake each other, and a partition may use another connection each time.
//  3. At most lanes requests are out. Each is given by next, and ended by done.
//  4. While something waits, somebody will ask for it: kick is set, or a request is being answered
//     or all lanes are taken, and who sent it asks after done, or somebody asks again after a time
//     (watched).
type combiner struct {
	lanes int
	kick  chan struct{} // of capacity 1

	mu      sync.Mutex
	queues  [unitKinds]unitQueue
	pushes  uint64
	out     []*request // in the order in which they were given
	spare   []*request // that are done, to be used again
	watched bool
}

// unitQueue is the units of one kind that wait, in order.
type unitQueue struct {
	list  []waitingUnit
	bytes int
}

type waitingUnit struct {
	w *worker
	// bytes and markers are of the unit at the time of the push. It may have grown since.
	bytes, markers int
	since          time.Time
	nth            uint64 // of all pushes
}

// request is what is to be sent in one request.
type request struct {
	kind    unitKind
	workers []*worker // each has a unit to take
	since   time.Time
	// answering says that the results are being delivered. What becomes ready then is collected
	// until done.
	answering bool
}

func newCombiner(lanes int) *combiner { return &combiner{lanes: lanes, kick: make(chan struct{}, 1)} }

// push queues a worker whose next unit is i. It does not block.
func (c *combiner) push(w *worker, i item, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := waitingUnit{w: w, bytes: len(i.bytes), since: now, nth: c.pushes}
	if i.markers() {
		u.markers = int(i.records)
	}
	c.pushes++
	q := &c.queues[i.kind()]
	q.list = append(q.list, u)
	q.bytes += u.bytes
	if !q.small() || len(c.out) == 0 || !c.watched && !c.answering() {
		c.signal()
	}
}

// next waits until there is a request to send, and gives it; nil if the context ends.
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

// take gives a request to send. If it is nil, ask again when kick is set, and after a time if that
// is not 0.
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
	if len(c.queues[batchUnits].list)+len(c.queues[markerUnits].list) > 0 {
		c.signal()
	}
	return r, 0
}

// hold is how long the units of a queue have to wait for the answers to others; while results are
// delivered, until done.
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

// oldest is the queue whose first unit waits longest, of those that need not wait now. If there is
// none, again is when there will be one; 0 = that is not a matter of time.
func (c *combiner) oldest(now time.Time) (oldest *unitQueue, kind unitKind, again time.Duration) {
	again = untilDone
	for k := range unitKinds {
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

// answered says that the results of a request, or some of them, are about to be delivered.
func (c *combiner) answered(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.answering = true
}

// done says that all results of a request have been delivered, and gives the request back. Who says
// so asks for the next one at once, or for no more.
func (c *combiner) done(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.out, r); i >= 0 {
		c.out = slices.Delete(c.out, i, i+1)
		clear(r.workers)
		c.spare = append(c.spare, r)
	}
}

// signal lets somebody who waits in next look again.
func (c *combiner) signal() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (q *unitQueue) small() bool { return len(q.list) < smallUnits && q.bytes < smallBytes }

// take adds as much to workers as goes in a request, at least one unit.
func (q *unitQueue) take(workers []*worker) []*worker {
	n, bytes, markers := 0, 0, 0
	for n < len(q.list) && n < maxProducePartitions && bytes < maxProduceBytes {
		u := q.list[n]
		if n > 0 && markers+u.markers > maxRequestMarkers {
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
