package memory

import (
	"math/bits"
	"sync"
)

const (
	// minClass and maxClass are the smallest and the largest size, in bytes, in which memory is
	// kept.
	minClass = 4 << 10
	maxClass = 64 << 20
	// classes is the number of sizes, four to each power of two.
	classes = 4*14 + 1
	// maxIdle bounds the idle memory in bytes, which comes on top of the budget: see newPool.
	maxIdle = 32 << 20
)

// pool keeps the memory of released frames for the next ones.
//
// Memory comes in sizes, four to each power of two, so that at most a fifth of a frame is unused. A
// trim leaves the memory that nobody has used since the trim before to the garbage collector.
type pool struct {
	max int64 // bound of idle, in bytes

	mu   sync.Mutex
	idle int64
	free [classes][][]byte
	low  [classes]int // the least length of free since the last trim
}

// newPool returns the pool of a budget of total bytes. It keeps at most an eighth of them idle, on
// top of the budget.
func newPool(total int64) *pool { return &pool{max: min(total/8, maxIdle)} }

// classOf returns the size of the memory for n bytes, and the index of that size; -1 = memory of
// this size is not kept.
func classOf(n int64) (size int64, class int) {
	switch {
	case n <= minClass:
		return minClass, 0
	case n > maxClass:
		return n, -1
	}
	octave := bits.Len64(uint64(n-1)) - 1 // 2^octave < n <= 2^(octave+1)
	step := int64(1) << (octave - 2)
	quarter := (n - 1 - int64(1)<<octave) / step // 0 to 3
	return int64(1)<<octave + (quarter+1)*step, (octave-12)*4 + int(quarter) + 1
}

// FloorClass returns the largest size of memory that is at most n; n is at least minClass.
func FloorClass(n int64) int64 {
	size, class := classOf(n)
	if class <= 0 || size == n {
		return min(size, n)
	}
	octave := bits.Len64(uint64(n-1)) - 1
	return size - int64(1)<<(octave-2)
}

// get returns memory for n bytes. It is not cleared.
func (p *pool) get(n int64) []byte {
	size, class := classOf(n)
	if class >= 0 {
		p.mu.Lock()
		if last := len(p.free[class]) - 1; last >= 0 {
			b := p.free[class][last]
			p.free[class][last] = nil
			p.free[class] = p.free[class][:last]
			p.low[class] = min(p.low[class], last)
			p.idle -= size
			p.mu.Unlock()
			return b
		}
		p.mu.Unlock()
	}
	return make([]byte, size)
}

// put takes back memory that get returned.
func (p *pool) put(b []byte) {
	size, class := classOf(int64(cap(b)))
	if class < 0 || size != int64(cap(b)) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle+size <= p.max {
		p.idle += size
		p.free[class] = append(p.free[class], b[:size])
	}
}

// Trim gives up the memory that nobody has used since the last trim.
func (p *pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for class, free := range p.free {
		if n := p.low[class]; n > 0 {
			for i := range n {
				p.idle -= int64(cap(free[i]))
			}
			rest := copy(free, free[n:])
			clear(free[rest:])
			p.free[class] = free[:rest]
		}
		p.low[class] = len(p.free[class])
	}
}
