package proxy

import (
	"math/bits"
	"sync"
)

// Pooled buffers have powers of two between these sizes. Smaller and larger ones are not worth a
// pool.
const (
	minBufferBits = 10 // 1 KiB
	maxBufferBits = 22 // 4 MiB
)

// buffer is a byte slice that knows its pool. It has one owner at a time; the owner either hands it
// on or calls free, never both.
type buffer struct {
	b []byte
	// bits is the binary logarithm of the capacity; 0 for a buffer that is left to the garbage
	// collector.
	bits uint8
}

var bufferPools [maxBufferBits + 1]sync.Pool

// newBuffer returns an empty buffer with a capacity of at least n bytes.
func newBuffer(n int) *buffer {
	if n > 1<<maxBufferBits {
		return &buffer{b: make([]byte, 0, wholePages(n))}
	}
	class := minBufferBits
	if n > 1<<minBufferBits {
		class = bits.Len(uint(n - 1))
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		b.b = b.b[:0]
		return b
	}
	return &buffer{b: make([]byte, 0, 1<<class), bits: uint8(class)}
}

// free returns the buffer to its pool. b may be nil.
func (b *buffer) free() {
	if b != nil && b.bits != 0 {
		bufferPools[b.bits].Put(b)
	}
}

// grown returns a buffer with the same bytes and room for at least n in all. If b was too small,
// grown frees it. hint is the announced size; grown trusts it only in proportion to what has
// arrived, because anybody can announce two gigabytes. Capacities at least double, so that a frame
// that arrives in many pieces is copied a bounded number of times.
func (b *buffer) grown(n, hint int) *buffer {
	if b != nil && n <= cap(b.b) {
		return b
	}
	bigger := newBuffer(b.sizeToGrow(n, hint))
	if b != nil {
		bigger.b = append(bigger.b, b.b...)
		b.free()
	}
	return bigger
}

// size returns the capacity; 0 for nil.
func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return cap(b.b)
}

// grownSize returns the capacity of the buffer that grown would return.
func (b *buffer) grownSize(n, hint int) int {
	if b != nil && n <= cap(b.b) {
		return cap(b.b)
	}
	size := b.sizeToGrow(n, hint)
	if size > 1<<maxBufferBits {
		return wholePages(size)
	}
	return max(1<<bits.Len(uint(size-1)), 1<<minBufferBits)
}

// wholePages rounds up the size of a buffer that is not worth a pool.
func wholePages(n int) int {
	const page = 64 << 10
	return (n + page - 1) &^ (page - 1)
}

// sizeToGrow returns the size that grown asks newBuffer for. A negative hint only bounds that size,
// and reserves nothing.
func (b *buffer) sizeToGrow(n, hint int) int {
	size := n
	if b != nil {
		size = max(n, 2*cap(b.b))
	}
	if -hint > n {
		return min(size, -hint)
	}
	if hint > n {
		trust := trustSmall
		if n >= 1<<maxBufferBits {
			trust = trustLarge
		}
		size = min(max(size, trust*n), max(hint, n))
	}
	return size
}

// The factors by which a reservation for an announced size may exceed what has arrived.
const (
	trustSmall = 32
	trustLarge = 4
)
