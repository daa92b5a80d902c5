package batch

import "fmt"

// Kind says what has to be done with a batch of the source.
type Kind uint8

const (
	// Data has as many records as offsets. It is appended as it is, except for the stamp. A batch
	// of a committed transaction, one with LogAppendTime and one with a delete horizon are Data
	// too: Stamp does what they need.
	Data Kind = iota + 1
	// Thinned has fewer records than offsets, after compaction: Recoder.Runs turns it into batches
	// that a broker accepts.
	Thinned
	// Empty has no record left after compaction: its offsets are a hole.
	Empty
	// Control holds a marker of a transaction or of the brokers. Clients skip it: its offset is a
	// hole.
	Control
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Thinned:
		return "thinned"
	case Empty:
		return "empty"
	case Control:
		return "control"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Classify returns the kind of the batch b, by its header. The error wraps ErrMalformed,
// ErrOldFormat or ErrUnsupported; the mirror then has to stop, because klink never skips a batch.
//
// Classify does not verify the checksum. An appended batch keeps its damage, so that the
// destination finds it. Before a batch that is not Data becomes a hole, VerifyCRC has to confirm it
// (Aborted.Drop and Recoder.Runs do).
func Classify(b []byte) (Kind, error) {
	if err := whole(b); err != nil {
		return 0, err
	}
	h := Header(b)
	base, last, count, attributes := h.BaseOffset(), h.LastOffsetDelta(), h.Count(), h.Attributes()
	switch {
	case base < 0 || last < 0 || count < 0 || base > maxLogicalBase-int64(last):
		return 0, fmt.Errorf("%w: base offset %d, last offset delta %d, %d records", ErrMalformed, base, last, count)
	case int64(count) > int64(last)+1:
		return 0, fmt.Errorf("%w: %d records in %d offsets at offset %d", ErrMalformed, count, int64(last)+1, base)
	case attributes&^knownAttributes != 0 || h.Codec() > lastKnownCodec:
		return 0, fmt.Errorf("%w: %#04x at offset %d", ErrUnsupported, uint16(attributes), base)
	case h.Control():
		return Control, nil
	case count == 0:
		return Empty, nil
	case int64(count) != int64(last)+1:
		return Thinned, nil
	}
	return Data, nil
}
