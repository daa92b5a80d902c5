package timeline

import "sync/atomic"

// ringSlots is the number of places that readers have reached and the ring keeps: the most recent
// ones, in 8 KiB.
const ringSlots = 256

// ring holds the spans that responses have taught, in no order. A sequential reader finds there
// what its last response taught. Any number of readers read the ring while one goroutine writes.
type ring struct {
	slots [ringSlots]slot
	next  int // of the writer
}

// slot is a sequence lock: seq is odd while the span is being written, and changes with each write.
type slot struct {
	seq               atomic.Uint32
	n                 atomic.Uint32 // 0 = empty
	physical, logical atomic.Int64
}

// load reads a slot. ok is false if the slot is empty or being written.
func (s *slot) load() (x span, ok bool) {
	seq := s.seq.Load()
	x = span{physical: s.physical.Load(), logical: s.logical.Load(), n: int64(s.n.Load())}
	return x, x.n > 0 && seq&1 == 0 && s.seq.Load() == seq
}

func (s *slot) store(x span) {
	s.seq.Add(1)
	s.physical.Store(x.physical)
	s.logical.Store(x.logical)
	s.n.Store(uint32(x.n))
	s.seq.Add(1)
}

// put replaces the oldest span. The writer holds the lock.
func (r *ring) put(x span) {
	r.slots[r.next].store(x)
	r.next = (r.next + 1) % ringSlots
}

// filter empties the slots whose span keep rejects. The writer holds the lock.
func (r *ring) filter(keep func(span) bool) {
	if r == nil {
		return
	}
	for i := range r.slots {
		if x, ok := r.slots[i].load(); ok && !keep(x) {
			r.slots[i].store(span{})
		}
	}
}
