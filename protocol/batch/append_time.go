package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// WithoutAppendTime turns b, a batch with LogAppendTime that Stamp has stamped, into a batch that
// old brokers accept.
//
// New brokers accept a batch with the LogAppendTime bit in a topic with CreateTime. They clear the
// bit and keep the maximal timestamp, which is the time of the append; Restore sets the bit again.
// Old brokers (2.4.1 and 2.8.2, tried here) refuse the batch with INVALID_TIMESTAMP. Without the
// bit every broker computes the maximal timestamp from the records, so the time of the append would
// be lost. So WithoutAppendTime gives each record that time as its own, and clears the bit; the
// stamp has the flag. A client reads the same either way.
//
// The result has the same offsets, records, codec and stamp, and is no larger before compression.
// It is valid until the next use of r. b must not be a result of r. A batch without the bit is
// returned as it is. An error wraps ErrCorrupt, ErrMalformed, ErrTooLarge, ErrThinned or the errors
// of Classify.
func (r *Recoder) WithoutAppendTime(b Header) (Header, error) {
	switch kind, err := Classify(b); {
	case err != nil:
		return nil, err
	case !b.LogAppendTime():
		return b, nil
	case kind != Data:
		return nil, fmt.Errorf("%w: a batch of kind %s at offset %d cannot be appended", ErrThinned, kind, b.BaseOffset())
	case !VerifyCRC(b):
		return nil, fmt.Errorf("%w: wrong checksum at offset %d", ErrCorrupt, b.BaseOffset())
	}
	defer r.tidy()
	rest, err := r.records(b)
	if err != nil {
		return nil, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	r.plain = r.plain[:0]
	for len(rest) > 0 {
		var rec record
		if rec, rest, err = nextRecord(rest); err != nil {
			return nil, err
		}
		delta := int64(rec.offsetDelta)
		r.plain = binary.AppendVarint(r.plain, int64(2+varintSize(delta)+len(rec.what)))
		r.plain = append(r.plain, rec.when[0], 0) // attributes, no difference to the base timestamp
		r.plain = binary.AppendVarint(r.plain, delta)
		r.plain = append(r.plain, rec.what...)
	}
	out, err := r.finish(run{
		base: b.BaseOffset(), count: b.Count(), leaderEpoch: b.LeaderEpoch(), attributes: b.Attributes() &^ bitLogAppendTime,
		baseTimestamp: b.MaxTimestamp(), maxTimestamp: b.MaxTimestamp(),
	}, len(b))
	if err != nil {
		return nil, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	copy(out[atProducerID:atCount], b[atProducerID:atCount])
	out.setCRC(crc32.Checksum(out[atAttributes:], castagnoli))
	return out, nil
}
