package batch

import (
	"encoding/binary"
	"fmt"
)

// A Record is one record of a batch, as EachRecord passes it. It is valid only during the call.
type Record struct {
	OffsetDelta int32 // from the base offset of the batch
	Timestamp   int64 // milliseconds since the epoch
	Key         []byte
	// HasKey is false for a record whose key is null.
	HasKey bool
	what   []byte // from the length of the key to the end of the headers
}

// EachRecord calls see for each record of a whole v2 batch, in the order of their offsets. It stops
// at the first error of see, and returns it. An error of its own wraps ErrCorrupt, ErrMalformed,
// ErrTooLarge (more than MaxInflated bytes) or ErrUnsupported. It passes no record of a damaged
// batch.
func EachRecord(h Header, see func(Record) error) error {
	if err := whole(h); err != nil {
		return err
	}
	if !VerifyCRC(h) {
		return fmt.Errorf("%w: wrong checksum at offset %d", ErrCorrupt, h.BaseOffset())
	}
	var r Recoder
	records, err := r.records(h)
	if err != nil {
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset(), err)
	}
	for len(records) > 0 {
		rec, rest, err := nextRecord(records)
		if err != nil {
			return err
		}
		records = rest
		out := Record{OffsetDelta: rec.offsetDelta, Timestamp: h.BaseTimestamp() + rec.timestampDelta(), what: rec.what}
		if size, n := binary.Varint(rec.what); size >= 0 {
			out.HasKey, out.Key = true, rec.what[n:n+int(size)]
		}
		if err := see(out); err != nil {
			return err
		}
	}
	return nil
}

// Plain makes v2 batches of tombstones and of records of other batches. They have no stamp and no
// producer, like batches that any client may write. The zero value is an empty batch. Not for use
// by several goroutines at once.
type Plain struct {
	r   Recoder
	run run
}

// Size returns the uncompressed length in bytes of the records in the batch.
func (p *Plain) Size() int { return len(p.r.plain) }

// Count returns the number of records in the batch.
func (p *Plain) Count() int { return int(p.run.count) }

// Add adds a record with its key, value, headers and timestamp.
func (p *Plain) Add(rec Record) { p.add(rec.Timestamp, rec.what) }

// AddTombstone adds a record without a value.
func (p *Plain) AddTombstone(timestamp int64, key []byte) {
	what := appendField(nil, key)
	what = binary.AppendVarint(what, -1)
	p.add(timestamp, append(what, 0))
}

func (p *Plain) add(timestamp int64, what []byte) {
	u := &p.run
	if u.count == 0 {
		u.baseTimestamp, p.r.plain = timestamp, p.r.plain[:0]
	}
	when, offset := timestamp-u.baseTimestamp, int64(u.count)
	p.r.plain = binary.AppendVarint(p.r.plain, int64(1+varintSize(when)+varintSize(offset)+len(what)))
	p.r.plain = append(p.r.plain, 0)
	p.r.plain = binary.AppendVarint(p.r.plain, when)
	p.r.plain = binary.AppendVarint(p.r.plain, offset)
	p.r.plain = append(p.r.plain, what...)
	u.saw(timestamp)
}

// Batch returns the batch, compressed with a codec (as attributes name them). It is valid until the
// next call of Add. The next record begins another batch.
func (p *Plain) Batch(codec int8) (Header, error) {
	u := p.run
	p.run = run{}
	u.attributes, u.leaderEpoch = int16(codec), noLeaderEpoch
	return p.r.finish(u, len(p.r.plain))
}

// HasValue reports whether the record has a value; a tombstone has none.
func (r Record) HasValue() bool {
	rest, ok := skipField(r.what, -1)
	if !ok {
		return false
	}
	size, _ := binary.Varint(rest)
	return size >= 0
}
