package batch

import (
	"fmt"
	"math"
)

// Check says whether this version of klink can mirror the batch b: append it to a stock broker as it is, but for the stamp,
// and give it back as it was. nil = yes. Otherwise the error wraps the one of this package's errors that names what was
// met, and the mirror has to stop: a batch is never skipped.
//
// The checksum is not looked at: Stamp carries damage over, so that the destination finds it.
func Check(b []byte) error {
	if err := whole(b); err != nil {
		return err
	}
	h := Header(b)
	base, last, count, attributes := h.BaseOffset(), h.LastOffsetDelta(), h.Count(), h.Attributes()
	switch {
	case base < 0 || last < 0 || count < 0 || base > maxLogicalBase-int64(last):
		return fmt.Errorf("%w: base offset %d, last offset delta %d, %d records", ErrMalformed, base, last, count)
	case int64(count) > int64(last)+1:
		return fmt.Errorf("%w: %d records in %d offsets at offset %d", ErrMalformed, count, int64(last)+1, base)
	case attributes&^knownAttributes != 0 || h.Codec() > lastKnownCodec:
		return fmt.Errorf("%w: %#04x at offset %d", ErrUnsupported, uint16(attributes), base)
	case h.Control():
		return fmt.Errorf("%w at offset %d", ErrControl, base)
	case h.Transactional():
		return fmt.Errorf("%w at offset %d (producer id %d)", ErrTransactional, base, h.ProducerID())
	case count == 0:
		return fmt.Errorf("%w at offset %d", ErrEmpty, base)
	case int64(count) != int64(last)+1:
		return fmt.Errorf("%w: %d of %d records left at offset %d", ErrThinned, count, int64(last)+1, base)
	case h.DeleteHorizon():
		return fmt.Errorf("%w: delete horizon at offset %d", ErrThinned, base)
	case h.LogAppendTime():
		return fmt.Errorf("%w at offset %d", ErrLogAppendTime, base)
	}
	return nil
}

// maxLogicalBase is the highest logical base offset: the offset after it, and its stamp, still fit 63 bits.
const maxLogicalBase = math.MaxInt64 - 1
