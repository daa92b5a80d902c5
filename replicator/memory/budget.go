package memory

import (
	"context"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes of batches held in memory, over all links and partitions.
//
// Invariant: what is reserved and what frames hold is at most Total together. Who wants memory
// reserves it before (Reserve), or goes without if there is none (TryFrame, TryRead). It is
// exceeded only by what nobody knows beforehand, and then free is below zero, and no fetch is sent
// until enough is free again:
//
//   - A source answers with at least one batch, however large, so a response may be larger than its
//     reservation. It is one batch for each fetch on its way.
//   - Batches that klink has to rebuild count on top of the response that they came in.
//
// A fetch reserves the bytes that it asks for before it is sent. It then holds the bytes that came,
// in a frame, until the last batch of the frame has been appended or dropped.
//
// Reservations leave a quarter of the budget to copies: joined batches, and those that are copied
// out of a large frame to free it. Without that, nothing could be copied once fetches have used up
// the budget, and it is then that copies free memory.
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

// Reservable returns the most that can be reserved. The rest is for copies.
func (b *Budget) Reservable() int64 { return b.Total - b.Total/4 }

// grantLocked takes n bytes for a reservation if there is room for them.
func (b *Budget) grantLocked(n int64) bool {
	if b.free-n < b.Total-b.Reservable() {
		return false
	}
	b.free -= n
	return true
}

// Reserve waits until n bytes can be reserved and takes them. n must not exceed Reservable.
func (b *Budget) Reserve(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.grantLocked(n) {
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
	for len(b.waiters) > 0 && b.grantLocked(b.waiters[0].n) {
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// Scarce reports whether less than a quarter of what can be reserved is left. Batches that hold
// large frames should then let go of them.
func (b *Budget) Scarce() bool { return b.Left() < b.Total-b.Reservable()+b.Reservable()/4 }

// Left returns the bytes that are free, for reservations and copies; below zero, frames have become
// larger than was reserved.
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

// TryFrame returns a frame for a copy of size bytes in memory that is not the pool's; nil if there
// is no room for it.
func (b *Budget) TryFrame(size int64) *Frame {
	if !b.take(size) {
		return nil
	}
	return b.Frame(size, size)
}

// TryRead returns a frame with at least size bytes of the pool's memory for a copy; nil if there is
// no room for it.
func (b *Budget) TryRead(size int64) *Frame {
	whole, _ := classOf(size)
	if !b.take(whole) {
		return nil
	}
	return b.Read(whole, size)
}

// take takes n bytes for a copy if they are free.
func (b *Budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n {
		return false
	}
	b.free -= n
	return true
}

// Grow gives the frame memory for size bytes and copies the first used bytes. Only the caller may
// hold the frame. Both memories count while both are there.
func (f *Frame) Grow(used, size int64) {
	mem := f.Budget.Pool.get(size)
	f.Budget.hold(0, int64(cap(mem)))
	copy(mem, f.Mem[:used])
	f.Budget.Pool.put(f.Mem)
	f.Budget.hold(0, -f.Size)
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
