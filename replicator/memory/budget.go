package memory

import (
	"context"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes of batches held in memory, over all links and partitions.
//
// A fetch reserves the bytes that it asks for before it is sent. It then holds the bytes that came,
// in a frame, until the last batch of the frame has been appended or dropped. A source answers with
// at least one batch, however large, so a frame may be larger than its reservation. free then goes
// below zero, and no other fetch is sent until it is above again.
//
// Reservations are served in the order they came, so no fetcher starves.
type Budget struct {
	Total int64
	Pool  *pool

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

// NewBudget returns a budget of total bytes, with a pool beside it.
func NewBudget(total int64) *Budget { return &Budget{Total: total, free: total, Pool: newPool(total)} }

// Reserve waits until n bytes are free and takes them. n must not exceed the total.
func (b *Budget) Reserve(ctx context.Context, n int64) error {
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

// Put gives n bytes back; a negative n takes them without waiting.
func (b *Budget) Put(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(n)
}

func (b *Budget) putLocked(n int64) {
	b.free += n
	b.wakeLocked()
}

func (b *Budget) wakeLocked() {
	for len(b.waiters) > 0 && b.free >= b.waiters[0].n {
		b.free -= b.waiters[0].n
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// Scarce reports whether little is left. Batches that hold large frames should then let go of them.
func (b *Budget) Scarce() bool { return b.Left() < b.Total/4 }

// Left returns the bytes that are free; below zero, frames have become larger than was reserved.
func (b *Budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free
}

// Usage returns the bytes held in frames, now and at most so far.
func (b *Budget) Usage() (held, maxHeld int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.maxHeld
}

// Frame turns a reservation of reserved bytes into a frame for size bytes of memory that is not the
// pool's. The caller holds it, once.
func (b *Budget) Frame(reserved, size int64) *Frame {
	f := &Frame{Budget: b, Size: size}
	f.refs.Store(1)
	b.hold(reserved, size)
	return f
}

// hold accounts for a frame.
func (b *Budget) hold(reserved, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += size
	b.maxHeld = max(b.maxHeld, b.held)
	b.putLocked(reserved - size)
}

// Read turns a reservation into a frame with at least size bytes of the pool's memory. The caller
// holds it, once.
func (b *Budget) Read(reserved, size int64) *Frame {
	f, _ := frames.Get().(*Frame)
	if f == nil {
		f = &Frame{}
	}
	f.Budget, f.Mem = b, b.Pool.get(size)
	f.Size = int64(cap(f.Mem))
	f.refs.Store(1)
	b.hold(reserved, f.Size)
	return f
}

// Grow gives the frame memory for size bytes and copies the first used bytes. Only the caller may
// hold the frame.
func (f *Frame) Grow(used, size int64) {
	mem := f.Budget.Pool.get(size)
	copy(mem, f.Mem[:used])
	f.Budget.hold(0, int64(cap(mem))-f.Size)
	f.Budget.Pool.put(f.Mem)
	f.Mem, f.Size = mem, int64(cap(mem))
}

// frames holds frames for reuse, without their memory.
var frames sync.Pool

// Frame is the memory of one fetch response. It stays accounted for while any batch in it is queued
// or in flight, because all of it stays in memory until then.
//
// Invariant: whoever uses the bytes of a frame holds it. When the last holder releases it, another
// fetch overwrites its memory.
type Frame struct {
	Budget *Budget
	Size   int64
	Mem    []byte // of the budget's pool; nil = not the pool's
	refs   atomic.Int64
}

// Keep makes the caller one more holder of the frame.
func (f *Frame) Keep() { f.refs.Add(1) }

// Release ends one holding. After the last one another frame may get the memory.
func (f *Frame) Release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	b, size, mem := f.Budget, f.Size, f.Mem
	if mem != nil {
		f.Budget, f.Mem = nil, nil
		b.Pool.put(mem)
		frames.Put(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= size
	b.putLocked(size)
}
