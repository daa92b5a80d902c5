package timeline

import (
	"errors"
	"sort"
)

// Range is a range of physical offsets, To not included.
type Range struct{ From, To int64 }

// maxHidden bounds the hidden ranges of a partition. They cannot be forgotten: what is hidden would be shown.
const maxHidden = 512

// ErrTooManyHidden: somebody else keeps writing to the mirror.
var ErrTooManyHidden = errors.New("the destination's log has too many batches that klink did not write; find out who writes around klink, and delete and re-create the mirror")

// hidden are ranges in order, which neither overlap nor touch; immutable.
type hidden []hiddenRange

type hiddenRange struct {
	from, to int64
	before   int64 // how many offsets are hidden below from
}

// above is how many ranges begin at or below a physical offset.
func (h hidden) upTo(physical int64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].from > physical })
}

// visible is the number of offsets below physical that are not hidden.
func (h hidden) visible(physical int64) int64 {
	if len(h) == 0 {
		return physical
	}
	i := h.upTo(physical)
	if i == 0 {
		return physical
	}
	r := h[i-1]
	return physical - r.before - (min(physical, r.to) - r.from)
}

// physical is the inverse of visible: of the offsets with this visible one, the last, which is not hidden.
func (h hidden) physical(visible int64) int64 {
	if len(h) == 0 {
		return visible
	}
	i := sort.Search(len(h), func(i int) bool { return h[i].from-h[i].before > visible })
	if i == 0 {
		return visible
	}
	return add(visible, h[i-1].before+h[i-1].to-h[i-1].from)
}

func (h hidden) total() int64 {
	if len(h) == 0 {
		return 0
	}
	r := h[len(h)-1]
	return r.before + r.to - r.from
}

func (h hidden) has(physical int64) bool {
	if len(h) == 0 {
		return false
	}
	i := h.upTo(physical)
	return i > 0 && physical < h[i-1].to
}

func (h hidden) ranges() []Range {
	out := make([]Range, len(h))
	for i, r := range h {
		out[i] = Range{From: r.from, To: r.to}
	}
	return out
}

// with returns h and one more range, merged with those that it touches.
func (h hidden) with(from, to int64) hidden {
	i := sort.Search(len(h), func(i int) bool { return h[i].to >= from })
	j := sort.Search(len(h), func(j int) bool { return h[j].from > to })
	if i < j {
		from, to = min(from, h[i].from), max(to, h[j-1].to)
	}
	out := make(hidden, 0, len(h)+1)
	out = append(append(append(out, h[:i]...), hiddenRange{from: from, to: to}), h[j:]...)
	before := int64(0)
	for k := range out {
		out[k].before = before
		before += out[k].to - out[k].from
	}
	return out
}
