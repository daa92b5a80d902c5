package batch

import (
	"encoding/binary"
	"fmt"
)

// Convert turns messages of the formats v0 and v1 into v2 batches. Brokers before 0.11, or with an
// old message.format.version, have such messages in their logs. Convert takes the messages at the
// beginning of records, and stops at a batch of a later format, at a message that was cut off, or
// at the end; they take n bytes. After the last of them the source's log goes on at the offset
// next; next is from if there was no message. A log that was upgraded has both kinds: walk on
// behind n.
//
// An uncompressed message becomes a batch of its own. Larger batches would save bytes, but messages
// stand in the log one by one, and nothing marks which were appended together. Where the records of
// a fetch begin and end is chance, so a second fetch would draw other boundaries (see Recoder). A
// compressed message wraps others: they become dense runs, mostly one, with the wrapper's codec.
//
// Convert leaves out runs that end at or below the offset from; from changes nothing else. A batch
// is valid until emit returns. emit may stamp it in place and must not use r. An error of emit ends
// the work, and Convert returns it; n is then where the message of that batch begins.
//
// Offsets, keys and values stay as they were. So do a v1 message's timestamp and timestamp type
// (inside a wrapper with LogAppendTime the wrapper's timestamp counts). A v0 message gets the
// timestamp -1, "none", and the type CreateTime, because v2 has no other.
//
// An error of Convert itself wraps ErrCorrupt, ErrMalformed, ErrTooLarge or ErrUnsupported. Nothing
// of the message at n was emitted then. Convert verifies checksums, because the new ones would hide
// damage.
func (r *Recoder) Convert(records []byte, from int64, emit func(Header) error) (n int, next int64, err error) {
	defer r.tidy()
	r.codecs.account = r.Account
	for next = from; ; {
		size, old, err := peekMessage(records[n:])
		if err != nil {
			return n, next, fmt.Errorf("%w, %d bytes into the records", err, n)
		}
		if !old || size == 0 || size > len(records)-n {
			return n, next, nil
		}
		m, err := readMessage(records[n : n+size])
		if err != nil {
			return n, next, err
		}
		if m.offset < 0 || m.offset > maxLogicalBase {
			return n, next, fmt.Errorf("%w: offset %d", ErrMalformed, m.offset)
		}
		if m.offset >= from {
			if err := r.convert(m, size, from, emit); err != nil {
				return n, next, err
			}
		}
		n += size
		next = max(next, m.offset+1)
	}
}

// convert emits the batches of one message.
func (r *Recoder) convert(m message, size int, from int64, emit func(Header) error) error {
	if m.codec() == codecNone {
		r.plain = r.plain[:0]
		u := run{base: m.offset, leaderEpoch: noLeaderEpoch, baseTimestamp: m.timestamp}
		if m.logAppendTime() {
			u.attributes = bitLogAppendTime
		}
		r.add(&u, m, m.timestamp)
		return r.emit(u, size, emit)
	}
	base, err := r.unwrap(m)
	if err != nil {
		return fmt.Errorf("compressed message at offset %d: %w", m.offset, err)
	}
	return r.rewrap(m, base, size, from, emit)
}

// unwrap decompresses the messages in m to r.raw and verifies them. base must be added to their
// offsets. In v1 they are relative, and the wrapper has the offset of the last message (KIP-31); in
// v0 they are absolute.
func (r *Recoder) unwrap(m message) (base int64, err error) {
	if m.codec() == codecZstd {
		return 0, fmt.Errorf("%w: zstd in message format v%d", ErrMalformed, m.magic)
	}
	r.raw = r.raw[:0]
	if m.codec() == codecLZ4 && m.magic == 0 {
		r.raw, err = r.codecs.unlz4Broken(r.raw, m.value, r.limit())
	} else {
		r.raw, err = r.codecs.decompress(r.raw, m.value, m.codec(), r.limit())
	}
	if err != nil {
		return 0, err
	}
	last := int64(-1)
	for rest := r.raw; len(rest) > 0; {
		size, old, err := peekMessage(rest)
		switch {
		case err != nil:
			return 0, err
		case !old || size == 0 || size > len(rest):
			return 0, fmt.Errorf("%w: it does not end with a whole message", ErrMalformed)
		}
		inner, err := readMessage(rest[:size])
		switch {
		case err != nil:
			return 0, err
		case inner.magic != m.magic || inner.codec() != codecNone:
			return 0, fmt.Errorf("%w: magic %d and codec %d in it", ErrMalformed, inner.magic, inner.codec())
		case inner.offset <= last || inner.offset > m.offset:
			return 0, fmt.Errorf("%w: offset %d after %d in it", ErrMalformed, inner.offset, last)
		}
		last = inner.offset
		rest = rest[size:]
	}
	switch {
	case last < 0:
		return 0, fmt.Errorf("%w: no message in it", ErrMalformed)
	case m.magic == 0:
		return 0, nil
	}
	return m.offset - last, nil
}

// rewrap emits the dense runs of the messages in r.raw. unwrap has verified them.
func (r *Recoder) rewrap(m message, base int64, size int, from int64, emit func(Header) error) error {
	u := run{leaderEpoch: noLeaderEpoch, attributes: int16(m.codec())}
	if m.logAppendTime() {
		u.attributes |= bitLogAppendTime
	}
	flush := func() error {
		if u.count == 0 || u.next() <= from {
			return nil
		}
		return r.emit(u, size, emit)
	}
	for rest := r.raw; len(rest) > 0; {
		size, _, err := peekMessage(rest)
		if err != nil {
			return err
		}
		inner, err := readMessage(rest[:size])
		if err != nil {
			return err
		}
		rest = rest[size:]
		if offset := base + inner.offset; u.count == 0 || offset != u.next() {
			if err := flush(); err != nil {
				return err
			}
			u.base, u.count, r.plain = offset, 0, r.plain[:0]
		}
		timestamp := inner.timestamp
		if m.logAppendTime() {
			timestamp = m.timestamp
		}
		r.add(&u, inner, timestamp)
	}
	return flush()
}

// add appends m to the records of the run u.
func (r *Recoder) add(u *run, m message, timestamp int64) {
	if u.count == 0 {
		u.baseTimestamp = timestamp
	}
	offset, when := int64(u.count), timestamp-u.baseTimestamp
	body := 1 + varintSize(when) + varintSize(offset) + fieldSize(m.key) + fieldSize(m.value) + 1
	r.plain = binary.AppendVarint(r.plain, int64(body))
	r.plain = append(r.plain, 0) // attributes
	r.plain = binary.AppendVarint(r.plain, when)
	r.plain = binary.AppendVarint(r.plain, offset)
	r.plain = appendField(r.plain, m.key)
	r.plain = appendField(r.plain, m.value)
	r.plain = append(r.plain, 0) // no headers
	u.saw(timestamp)
}

func (r *Recoder) emit(u run, sourceSize int, emit func(Header) error) error {
	batch, err := r.finish(u, sourceSize)
	if err != nil {
		return fmt.Errorf("messages at offset %d: %w", u.base, err)
	}
	return emit(batch)
}
