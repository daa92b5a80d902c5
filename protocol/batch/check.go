package batch

import (
	"fmt"
	"math"
)

// Check says whether the batch b can be appended to a stock broker as it is, but for the stamp, and
// given back as it was, without anything that Classify's kinds, Recoder or Aborted do: nil = yes.
// Otherwise the error wraps the one of this package's errors that names what was met.
//
// The checksum is not looked at: Stamp carries damage over, so that the destination finds it.
func Check(b []byte) error {
	kind, err := Classify(b)
	if err != nil {
		return err
	}
	h := Header(b)
	base := h.BaseOffset()
	switch {
	case kind == Control:
		return fmt.Errorf("%w at offset %d", ErrControl, base)
	case h.Transactional():
		return fmt.Errorf("%w at offset %d (producer id %d)", ErrTransactional, base, h.ProducerID())
	case kind == Empty:
		return fmt.Errorf("%w at offset %d", ErrEmpty, base)
	case kind == Thinned:
		return fmt.Errorf("%w: %d of %d records left at offset %d", ErrThinned, h.Count(), int64(h.LastOffsetDelta())+1, base)
	case h.DeleteHorizon():
		return fmt.Errorf("%w: delete horizon at offset %d", ErrThinned, base)
	case h.LogAppendTime():
		return fmt.Errorf("%w at offset %d", ErrLogAppendTime, base)
	}
	return nil
}

// maxLogicalBase is the highest logical base offset: the offset after it, and its stamp, still fit
// 63 bits.
const maxLogicalBase = math.MaxInt64 - 1
