package batch

// Chain tells which batches of a mirror's log count, of those that a reader meets in order.
//
// A batch counts if it is stamped and stands at its place (Counts). One with FlagFollows was sent
// when the append in front of it was not confirmed. That one may have been refused or lost, and a
// batch of as many offsets may stand in its place, so that the place proves nothing. So a batch
// with the flag counts only if the batch right before it counts, and ends at its own logical base
// offset. An owner sets the flag on no more than a window's batches in a row.
//
// A batch right before it that is missing is no objection: the log begins there, or the cleaner has
// removed what stood there.
//
// The zero value has met nothing. It is for one goroutine.
type Chain struct {
	end     int64 // physical, of the last batch that was met
	logical int64 // where that one ends
	met     bool
	counts  bool
	sure    bool
}

// Verdict is what a reader knows of a batch.
type Verdict uint8

const (
	// VerdictVoid: the batch does not count, and no reader is shown a record of it.
	VerdictVoid Verdict = iota
	// VerdictCounts: it is one of the mirror.
	VerdictCounts
	// VerdictUnsure: it counts if what stands before the first batch of the walk does.
	VerdictUnsure
)

// Begin says that the log up to the physical offset has been judged, and that what counts of it
// ends at logical.
func (c *Chain) Begin(physical, logical int64) {
	*c = Chain{end: physical, logical: logical, met: true, counts: true, sure: true}
}

// See judges the next batch of the log. Where a reader has other reasons to take a batch for void,
// it says so with Reject.
func (c *Chain) See(h Header) Verdict {
	logical, flags, _, stamped := ReadStamp(h)
	base := h.BaseOffset()
	counts, sure := stamped && h.inPlace(logical), true
	if counts && flags&FlagFollows != 0 && !h.Control() {
		switch {
		case !c.met:
			sure = false
		case c.end == base:
			counts, sure = c.counts && c.logical == logical, c.sure || !c.counts || c.logical != logical
		}
	}
	end := h.NextOffset()
	*c = Chain{end: end, logical: logical + end - base, met: true, counts: counts, sure: sure}
	switch {
	case !counts:
		return VerdictVoid
	case !sure:
		return VerdictUnsure
	}
	return VerdictCounts
}

// Reject says that the last batch does not count.
func (c *Chain) Reject() { c.counts, c.sure = false, true }

// Settle says whether the last batch, of which See was unsure, counts. It gives the verdict.
func (c *Chain) Settle(counts bool) Verdict {
	if c.counts, c.sure = counts, true; counts {
		return VerdictCounts
	}
	return VerdictVoid
}

// LookBack says whether a batch of which a Chain is unsure counts. It reads the log in front of it,
// a little at first, until there is a batch that counts or does not for sure. That is no more than
// a window's batches, where klink wrote them. start is the log start; read gives whole batches from
// the one that holds a physical offset on, or none.
func LookBack(h Header, start int64, read func(from int64) ([]byte, error)) (counts bool, err error) {
	base := h.BaseOffset()
	for back := int64(1); ; back *= 8 {
		from := max(start, base-back)
		var c Chain
		for at := from; at < base; {
			records, err := read(at)
			if err != nil {
				return false, err
			}
			next := at
			for w := Walk(records); w.Next() && next < base; {
				b := w.Batch()
				if b.BaseOffset() >= base {
					next = base
				} else if b.NextOffset() > at {
					c.See(b)
					next = b.NextOffset()
				}
			}
			if next == at {
				break
			}
			at = next
		}
		if v := c.See(h); v != VerdictUnsure || from == start {
			return v != VerdictVoid, nil
		}
	}
}
