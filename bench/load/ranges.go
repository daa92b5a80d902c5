package load

import "slices"

// maxRanges bounds the ranges of one set.
const maxRanges = 1024

// span is the numbers from first to last, both included. at is an offset that helps to find them.
type span struct {
	first, last uint64
	at          int64
}

// ranges is a set of numbers, kept as ordered spans that do not touch; it suits sets that are small
// or dense. Beyond maxRanges spans it only counts numbers.
type ranges struct {
	spans   []span
	counted uint64 // numbers that are in no span
}

// add adds the numbers from first to last. Numbers that are not above all numbers in the set are
// only counted.
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

// remove removes n, and reports whether n was in the set.
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

// without returns the spans of r without the numbers of other.
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
