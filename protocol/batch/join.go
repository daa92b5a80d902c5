package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// JoinGrowth is the largest number of bytes by which a record grows when its batch is joined to
// another: nine for its timestamp delta, two for its offset delta in a batch of at most MaxJoined
// bytes, one for its length.
const JoinGrowth = 12

// MaxJoined is the largest size in bytes of a batch that Join makes. It is less than the default of
// max.message.bytes.
const MaxJoined = 1 << 20

// maxJoinedPlain bounds the decompressed bytes of the records in a joined batch.
const maxJoinedPlain = 8 << 20

// Joinable reports whether the stamped batch b, right behind a, may be joined to a: both have the
// same codec, timestamp type and leader epoch at the source. With LogAppendTime a batch has one
// timestamp for all its records, which must be the same too. The caller makes sure that b begins
// where a ends. Headers suffice.
func Joinable(a, b []byte) bool {
	_, flagsA, epochA, okA := ReadStamp(a)
	_, flagsB, epochB, okB := ReadStamp(b)
	if !okA || !okB || flagsA != flagsB || epochA != epochB || flagsA&FlagFiller != 0 {
		return false
	}
	x, y := Header(a), Header(b)
	if x.Attributes() != y.Attributes() || x.Control() {
		return false
	}
	oneTime := flagsA&flagLogAppendTime != 0 || x.LogAppendTime()
	return !oneTime || x.MaxTimestamp() == y.MaxTimestamp()
}

// Join appends to dst one batch with the records of several batches. These must be stamped, dense
// and whole, and each Joinable to the one before it. The result has the stamp of the first batch,
// without its place. Records keep key, value, headers, offset and timestamp; only their deltas
// change.
//
// The result takes at most `most` bytes behind dst; if it would take more, the error wraps
// ErrTooLarge. If a checksum is wrong the error wraps ErrCorrupt, because the joined batch would
// hide the damage. After an error dst has its old content.
func (r *Recoder) Join(dst []byte, batches [][]byte, most int) ([]byte, error) {
	defer r.tidy()
	r.codecs.account = r.Account
	first := Header(batches[0])
	start, codec := len(dst), first.Codec()
	out := append(dst, first[:HeaderSize]...)
	plain := out // without compression, records go to their final place at once
	if codec != codecNone {
		plain = r.plain[:0]
	}
	j := joining{h: Header(out[start:]), most: start + most, codec: codec}
	for _, b := range batches {
		var err error
		if plain, err = r.joinOne(plain, b, first, &j); err != nil {
			return dst, err
		}
	}
	if codec == codecNone {
		out = plain
	} else {
		r.plain = plain
		var err error
		if out, err = r.codecs.compress(out, plain, codec, most); err != nil {
			return dst, err
		}
	}
	if len(out) > start+most {
		return dst, errTooLarge(most)
	}
	h := Header(out[start:])
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-sizePrefix))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(j.count-1))
	binary.BigEndian.PutUint64(h[atMaxTimestamp:], uint64(j.latest))
	binary.BigEndian.PutUint32(h[atCount:], uint32(j.count))
	h.setCRC(crc32.Checksum(h[atAttributes:], castagnoli))
	return out, nil
}

// joining is the progress of a Join.
type joining struct {
	h      Header
	codec  int8
	most   int
	count  int32
	latest int64 // the maximal timestamp so far
}

// joinOne appends the records of b to plain.
func (r *Recoder) joinOne(plain, b []byte, first Header, j *joining) ([]byte, error) {
	h := Header(b)
	if !VerifyCRC(b) {
		return plain, fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	records := b[HeaderSize:]
	if j.codec != codecNone {
		var err error
		if r.raw, err = r.codecs.decompress(r.raw[:0], records, j.codec, min(maxJoinedPlain, r.limit())); err != nil {
			return plain, err
		}
		records = r.raw
	}
	later := h.BaseTimestamp() - first.BaseTimestamp()
	if j.count == 0 || h.MaxTimestamp() > j.latest {
		j.latest = h.MaxTimestamp()
	}
	for n := range h.Count() {
		rec, rest, err := nextRecord(records)
		if err != nil {
			return plain, err
		}
		if rec.offsetDelta != n {
			return plain, fmt.Errorf("%w: offset delta %d of record %d", ErrMalformed, rec.offsetDelta, n)
		}
		records = rest
		when, delta := rec.timestampDelta()+later, int64(j.count)
		plain = binary.AppendVarint(plain, int64(1+varintSize(when)+varintSize(delta)+len(rec.what)))
		plain = append(plain, rec.when[0])
		plain = binary.AppendVarint(plain, when)
		plain = binary.AppendVarint(plain, delta)
		plain = append(plain, rec.what...)
		j.count++
		if j.codec == codecNone && len(plain) > j.most || len(plain) > maxJoinedPlain+j.most {
			return plain, errTooLarge(j.most)
		}
	}
	if len(records) > 0 {
		return plain, fmt.Errorf("%w: %d bytes behind the last record", ErrMalformed, len(records))
	}
	return plain, nil
}
