package timeline

import "sync/atomic"

// ringSlots is how many places that readers have reached are kept, the most recent ones: 8 KiB.
const ringSlots = 256

// ring holds the spans that responses have taught, in no order. A sequential reader finds there
// what its last response left; any number of readers read it while one writes.
type ring struct {
	slots [ringSlots]slot
	next  int // of the writer
}

// slot is a sequence lock: seq is odd while the span is being written, and changes with each.
type slot struct {
	seq               atomic.Uint32
	n                 atomic.Uint32 // 0 = empty
	physical, logical atomic.Int64
}

// load reads a slot; ok is false if it is empty or being written.
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

// put keeps a span in place of the oldest; the writer holds the lock.
func (r *ring) put(x span) {
	r.slots[r.next].store(x)
	r.next = (r.next + 1) % ringSlots
}

// filter empties the slots that keep does not want; the writer holds the lock.
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
