package batch

import (
	"fmt"
	"math"
)

// Check reports whether the batch b can be mirrored with nothing but a stamp: appended to a stock
// broker and given back as it was, without the work that Classify's kinds, Recoder or Aborted stand
// for. nil = yes. Otherwise the error wraps the error of this package that names the reason.
//
// Check does not verify the checksum: Stamp keeps the damage, so that the destination finds it.
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

// maxLogicalBase is the highest logical base offset: the next offset and its stamp still fit into
// 63 bits.
const maxLogicalBase = math.MaxInt64 - 1
