package replicator

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget bounds the bytes of batches held in memory, over all links and partitions.
//
// A fetch reserves the bytes that it asks for before it is sent. It then holds the bytes that came,
// in a frame, until the last batch of the frame has been appended or dropped. A source answers with
// at least one batch, however large, so a frame may be larger than its reservation. free then goes
// below zero, and no other fetch is sent until it is above again.
//
// Reservations are served in the order they came, so no fetcher starves.
type budget struct {
	total int64
	pool  *pool

	mu      sync.Mutex
	free    int64
	held    int64 // in frames
	maxHeld int64
	waiters []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{}
}

func newBudget(total int64) *budget { return &budget{total: total, free: total, pool: newPool(total)} }

// reserve waits until n bytes are free and takes them. n must not exceed the total.
func (b *budget) reserve(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.wakeLocked()
			return ctx.Err()
		}
	}
	b.putLocked(n) // granted just as ctx ended
	return ctx.Err()
}

// put gives n bytes back; a negative n takes them without waiting.
func (b *budget) put(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(n)
}

func (b *budget) putLocked(n int64) {
	b.free += n
	b.wakeLocked()
}

func (b *budget) wakeLocked() {
	for len(b.waiters) > 0 && b.free >= b.waiters[0].n {
		b.free -= b.waiters[0].n
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// scarce reports whether little is left. Batches that hold large frames should then let go of them.
func (b *budget) scarce() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free < b.total/4
}

// usage returns the bytes held in frames, now and at most so far.
func (b *budget) usage() (held, maxHeld int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.maxHeld
}

// frame turns a reservation of reserved bytes into a frame for size bytes of memory that is not the
// pool's. The caller holds it, once.
func (b *budget) frame(reserved, size int64) *frame {
	f := &frame{budget: b, size: size}
	f.refs.Store(1)
	b.hold(reserved, size)
	return f
}

// hold accounts for a frame.
func (b *budget) hold(reserved, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += size
	b.maxHeld = max(b.maxHeld, b.held)
	b.putLocked(reserved - size)
}

// read turns a reservation into a frame with at least size bytes of the pool's memory. The caller
// holds it, once.
func (b *budget) read(reserved, size int64) *frame {
	f, _ := frames.Get().(*frame)
	if f == nil {
		f = &frame{}
	}
	f.budget, f.mem = b, b.pool.get(size)
	f.size = int64(cap(f.mem))
	f.refs.Store(1)
	b.hold(reserved, f.size)
	return f
}

// grow gives the frame memory for size bytes and copies the first used bytes. Only the caller may
// hold the frame.
func (f *frame) grow(used, size int64) {
	mem := f.budget.pool.get(size)
	copy(mem, f.mem[:used])
	f.budget.hold(0, int64(cap(mem))-f.size)
	f.budget.pool.put(f.mem)
	f.mem, f.size = mem, int64(cap(mem))
}

// frames holds frames for reuse, without their memory.
var frames sync.Pool

// frame is the memory of one fetch response. It stays accounted for while any batch in it is queued
// or in flight, because all of it stays in memory until then.
//
// Invariant: whoever uses the bytes of a frame holds it. When the last holder releases it, another
// fetch overwrites its memory.
type frame struct {
	budget *budget
	size   int64
	mem    []byte // of the budget's pool; nil = not the pool's
	refs   atomic.Int64
}

func (f *frame) keep() { f.refs.Add(1) }

func (f *frame) release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	b, size, mem := f.budget, f.size, f.mem
	if mem != nil {
		f.budget, f.mem = nil, nil
		b.pool.put(mem)
		frames.Put(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= size
	b.putLocked(size)
}
