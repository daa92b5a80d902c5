package load

import "slices"

// maxRanges bounds the ranges of one set.
const maxRanges = 1024

// span is the numbers from first to last, both included. at is an offset that explains it.
type span struct {
	first, last uint64
	at          int64
}

// ranges is a set of numbers that is small or dense: ordered spans that do not touch. Beyond
// maxRanges of them numbers are only counted.
type ranges struct {
	spans   []span
	counted uint64 // numbers that are in no span
}

// add puts first to last in. What is not above all that is in is only counted.
func (r *ranges) add(first, last uint64, at int64) {
	n := len(r.spans)
	switch {
	case n > 0 && r.spans[n-1].last+1 == first:
		r.spans[n-1].last = last
		return
	case n == maxRanges || n > 0 && r.spans[n-1].last >= first:
		r.counted += last - first + 1
		return
	}
	r.spans = append(r.spans, span{first, last, at})
}

// remove takes n out, and says whether it was in.
func (r *ranges) remove(n uint64) bool {
	i, found := slices.BinarySearchFunc(r.spans, n, func(s span, n uint64) int {
		switch {
		case s.last < n:
			return -1
		case s.first > n:
			return 1
		}
		return 0
	})
	if !found {
		return false
	}
	s := r.spans[i]
	switch {
	case s.first == s.last:
		r.spans = slices.Delete(r.spans, i, i+1)
	case s.first == n:
		r.spans[i].first++
	case s.last == n:
		r.spans[i].last--
	default:
		r.spans[i].last = n - 1
		r.spans = slices.Insert(r.spans, i+1, span{n + 1, s.last, s.at})
	}
	return true
}

// without is r less what is in other.
func (r *ranges) without(other *ranges) (left []span) {
	for _, s := range r.spans {
		for _, o := range other.spans {
			if o.last < s.first || o.first > s.last {
				continue
			}
			if o.first > s.first {
				left = append(left, span{s.first, o.first - 1, s.at})
			}
			if o.last >= s.last {
				s.first = s.last + 1
				break
			}
			s.first = o.last + 1
		}
		if s.first <= s.last {
			left = append(left, s)
		}
	}
	return left
}

func (r *ranges) empty() bool { return len(r.spans) == 0 && r.counted == 0 }

func count(spans []span) (n uint64) {
	for _, s := range spans {
		n += s.last - s.first + 1
	}
	return n
}
