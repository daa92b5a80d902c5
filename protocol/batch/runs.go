package batch

import (
	"encoding/binary"
	"fmt"
)

// Runs passes the dense runs of the batch b to emit, in the order of their offsets. For a Thinned
// batch each maximal run of consecutive offsets is one batch, for Data b itself is, and for Empty
// there is none. The offsets between runs are holes.
//
// Runs leaves out runs that end at or below the offset from. So a replicator can resume within a
// batch, although the source always returns the whole batch. from changes nothing else.
//
// A run is valid until emit returns. emit may stamp it in place and must not use r. An error of
// emit ends the work, and Runs returns it. A run has the source batch's codec, timestamp type, base
// timestamp and leader epoch, and no producer. Its maximal timestamp is the maximum of its own
// timestamps (with LogAppendTime it is the source's, the time of the append). The transactional and
// the delete-horizon bit are clear: with the latter (KIP-534) the base timestamp is the delete
// horizon, but records are relative to it all the same.
//
// An error of Runs itself wraps ErrControl for a control batch, else ErrCorrupt, ErrMalformed,
// ErrTooLarge or the errors of Classify. Nothing was emitted then.
func (r *Recoder) Runs(b []byte, from int64, emit func(Header) error) error {
	kind, err := Classify(b)
	h := Header(b)
	switch {
	case err != nil:
		return err
	case kind == Control:
		return fmt.Errorf("%w at offset %d", ErrControl, h.BaseOffset())
	case kind == Data && h.NextOffset() > from:
		return emit(h)
	case kind == Data:
		return nil
	case !VerifyCRC(b):
		return fmt.Errorf("%w: wrong checksum at offset %d", ErrCorrupt, h.BaseOffset())
	case kind == Empty || h.NextOffset() <= from:
		return nil
	}
	defer r.tidy()
	r.codecs.account = r.Account
	records, err := r.records(h)
	if err != nil {
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset(), err)
	}
	return r.split(h, records, from, emit)
}

// records returns the uncompressed records of a batch, all of them valid and in the order of their
// offsets.
func (r *Recoder) records(h Header) ([]byte, error) {
	records := []byte(h[HeaderSize:])
	if h.Codec() != 0 {
		var err error
		if r.raw, err = r.codecs.decompress(r.raw[:0], records, h.Codec(), r.limit()); err != nil {
			return nil, err
		}
		records = r.raw
	}
	rest, count, last := records, int32(0), int32(-1)
	for len(rest) > 0 {
		var rec record
		var err error
		if rec, rest, err = nextRecord(rest); err != nil {
			return nil, err
		}
		if rec.offsetDelta <= last || rec.offsetDelta > h.LastOffsetDelta() {
			return nil, fmt.Errorf("%w: offset delta %d after %d, in a batch up to %d", ErrMalformed,
				rec.offsetDelta, last, h.LastOffsetDelta())
		}
		last = rec.offsetDelta
		count++
	}
	if count != h.Count() {
		return nil, fmt.Errorf("%w: %d records, the header says %d", ErrMalformed, count, h.Count())
	}
	return records, nil
}

// split emits the runs of a batch whose records are valid.
func (r *Recoder) split(h Header, records []byte, from int64, emit func(Header) error) error {
	u := run{
		leaderEpoch: h.LeaderEpoch(), baseTimestamp: h.BaseTimestamp(),
		attributes: h.Attributes() &^ (bitTransactional | bitDeleteHorizon),
	}
	flush := func() error {
		if u.count == 0 || u.next() <= from {
			return nil
		}
		if h.LogAppendTime() {
			u.maxTimestamp = h.MaxTimestamp()
		}
		batch, err := r.finish(u, len(h))
		if err != nil {
			return fmt.Errorf("batch at offset %d: %w", h.BaseOffset(), err)
		}
		return emit(batch)
	}
	for len(records) > 0 {
		rec, rest, err := nextRecord(records)
		if err != nil {
			return err
		}
		records = rest
		offset := h.BaseOffset() + int64(rec.offsetDelta)
		if u.count == 0 || offset != u.next() {
			if err := flush(); err != nil {
				return err
			}
			u.base, u.count, r.plain = offset, 0, r.plain[:0]
		}
		delta := int64(u.count)
		r.plain = binary.AppendVarint(r.plain, int64(len(rec.when)+varintSize(delta)+len(rec.what)))
		r.plain = append(r.plain, rec.when...)
		r.plain = binary.AppendVarint(r.plain, delta)
		r.plain = append(r.plain, rec.what...)
		u.saw(h.BaseTimestamp() + rec.timestampDelta())
	}
	return flush()
}
