package batch

// Chain decides which batches of a mirror's log count. The reader gives it the batches in the order
// of the log.
//
// A batch counts if it is stamped and stands at its place (Counts). A batch with FlagFollows was
// sent before the append in front of it was confirmed. That append may have been refused or lost,
// and a batch with as many offsets may have taken its place, so the place proves nothing. So a
// batch with the flag counts only if the batch right before it counts and ends at its own logical
// base offset. An owner sets the flag on no more than a window's batches in a row.
//
// If no batch stands right before it, a batch with the flag counts: the log begins there, or the
// cleaner has removed what stood there.
//
// The zero value has seen no batch. A Chain is for one goroutine.
type Chain struct {
	end     int64 // physical end of the last batch
	logical int64 // logical end of the last batch
	met     bool
	counts  bool
	sure    bool
}

// Verdict is what a reader knows of a batch.
type Verdict uint8

const (
	// VerdictVoid: the batch does not count, and no reader is shown its records.
	VerdictVoid Verdict = iota
	// VerdictCounts: the batch belongs to the mirror.
	VerdictCounts
	// VerdictUnsure: the batch counts if the batch before the first one of the walk counts and ends
	// where this run of batches begins.
	VerdictUnsure
)

// Begin tells the Chain that the log up to the physical offset has been judged, and that the part
// of it that counts ends at logical.
func (c *Chain) Begin(physical, logical int64) {
	*c = Chain{end: physical, logical: logical, met: true, counts: true, sure: true}
}

// See judges the next batch of the log. A reader that has other reasons to treat the batch as void
// calls Reject.
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

// Reject tells the Chain that the last batch does not count.
func (c *Chain) Reject() { c.counts, c.sure = false, true }

// Settle tells the Chain whether the last batch counts, if See was unsure. It returns the verdict.
func (c *Chain) Settle(counts bool) Verdict {
	if c.counts, c.sure = counts, true; counts {
		return VerdictCounts
	}
	return VerdictVoid
}

// LookBack reports whether a batch counts of which a Chain is unsure. It reads the log in front of
// the batch, first a little and then more, until it finds a batch that surely counts or surely does
// not. If klink wrote the batches, that is no more than a window's. start is the log start offset.
// read returns whole batches, from the one that holds the offset `from` on, or none.
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
