package timeline

import (
	"sort"
	"sync/atomic"
)

const (
	chunkSpans = 64
	// maxSpans bounds the number of spans: 1,536 spans of 24 bytes are 36 KiB. See thin.
	maxSpans = 1536
)

// spans are in the order of both offsets, and do not overlap. The slice and all chunks are
// immutable, except that the last chunk may grow. So appending a span, which the owner does at each
// hole, copies nothing.
type spans []*chunk

// chunk is never empty.
type chunk struct {
	n atomic.Int32 // how many elements of a are valid; stored after they were written
	a [chunkSpans]span
}

func (c *chunk) all() []span { return c.a[:c.n.Load()] }

func chunkOf(a []span) *chunk {
	c := &chunk{}
	c.n.Store(int32(copy(c.a[:], a)))
	return c
}

func (s spans) count() (n int) {
	for _, c := range s {
		n += int(c.n.Load())
	}
	return n
}

func (s spans) last() (span, bool) {
	if len(s) == 0 {
		return span{}, false
	}
	a := s[len(s)-1].all()
	return a[len(a)-1], true
}

// around returns the last span that begins at or below an offset, and the first one that begins
// above it.
func (s spans) around(offset int64, key func(span) int64) (a, b span, hasA, hasB bool) {
	i := sort.Search(len(s), func(i int) bool { return key(s[i].a[0]) > offset })
	if i < len(s) {
		b, hasB = s[i].a[0], true
	}
	if i == 0 {
		return a, b, false, hasB
	}
	c := s[i-1].all()
	j := sort.Search(len(c), func(j int) bool { return key(c[j]) > offset })
	if j < len(c) {
		b, hasB = c[j], true
	}
	return c[j-1], b, true, hasB // j > 0, as the first span of the chunk is not above offset
}

func byPhysical(x span) int64 { return x.physical }
func byLogical(x span) int64  { return x.logical }

// before orders spans. Several spans may begin at the same physical offset, or at the same logical
// offset.
func (x span) before(y span) bool {
	return x.physical < y.physical || x.physical == y.physical && x.logical < y.logical
}

// push appends a span that lies above all others. The writer holds the lock.
func (s spans) push(x span) spans {
	if len(s) > 0 {
		c := s[len(s)-1]
		if n := c.n.Load(); n < chunkSpans {
			c.a[n] = x
			c.n.Store(n + 1)
			return s
		}
	}
	return append(s[:len(s):len(s)], chunkOf([]span{x}))
}

// insert puts a span in its place. It copies only one chunk.
func (s spans) insert(x span) spans {
	i := sort.Search(len(s), func(i int) bool { return !s[i].a[0].before(x) })
	if i == len(s) {
		if last, ok := s.last(); !ok || last.before(x) {
			return s.push(x)
		}
	}
	i = max(i-1, 0)
	old := s[i].all()
	j := sort.Search(len(old), func(j int) bool { return !old[j].before(x) })
	a := make([]span, 0, len(old)+1)
	a = append(append(append(a, old[:j]...), x), old[j:]...)
	out := make(spans, 0, len(s)+1)
	out = append(out, s[:i]...)
	if len(a) <= chunkSpans {
		out = append(out, chunkOf(a))
	} else {
		out = append(out, chunkOf(a[:len(a)/2]), chunkOf(a[len(a)/2:]))
	}
	return append(out, s[i+1:]...)
}

// filter returns the spans that keep accepts, as keep changes them.
func (s spans) filter(keep func(*span) bool) spans {
	var out spans
	for _, c := range s {
		for _, x := range c.all() {
			if keep(&x) {
				out = out.push(x)
			}
		}
	}
	return out
}

// thin leaves at most half of maxSpans, at even distances. It drops spans that stand closer
// together than step, and doubles step until few enough are left. So the spans cover a log of any
// length evenly, its end more densely, and the cost of a span stays constant.
func (s spans) thin(step int64) (spans, int64) {
	end, _ := s.last() // the end of the log may be known from it
	for {
		last, first := int64(0), true
		out := s.filter(func(x *span) bool {
			keep := first || x.physical-last >= step || *x == end
			if keep {
				first, last = false, x.physical
			}
			return keep
		})
		if out.count() <= maxSpans/2 {
			return out, step
		}
		step = max(2*step, 2)
	}
}
