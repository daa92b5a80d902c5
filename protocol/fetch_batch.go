package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// The header of a message of the formats v0 and v1 (LegacyRecord): offset int64, size int32, crc
// uint32, magic int8, attributes int8. Magic and what lies before it stand at the same place in v2.
const (
	oldHeaderSize   = 18
	magicAt         = 16
	oldAttributesAt = 17
	oldCodecMask    = 0x07
)

// blankHead is how much of hidden records has to be looked at in one piece: up to the magic of the
// first batch.
const blankHead = magicAt + 1

// blankRecords makes b, the beginning of hidden records of which the rest becomes zeros, the
// beginning of a batch that was cut short. Brokers cut batches where the limit of the fetch is, so
// that every client can read such a response, and finds no record in it. The error of a hidden
// partition is not enough: the bytes would be there for whoever looks, and franz-go hands out
// records beside an error that it does not retry.
func blankRecords(b []byte) {
	clear(b)
	if len(b) == blankHead {
		binary.BigEndian.PutUint32(b[8:], blankSize)
		b[magicAt] = 2
	}
}

// blankSize is the size that hidden records claim: more than there are, and far enough from the end
// of an int32 that clients can add to it.
const blankSize = 1 << 30

// shown is what has been shown of the records of one partition.
type shown struct {
	any   bool  // a batch has been
	next  int64 // logical offset after the last one
	chain batch.Chain
	// unsure: some batch may not count (batch.VerdictUnsure). Nothing is learned from it.
	unsure bool
	// The last batch that counts: what the timeline has not learned yet of the partition. records =
	// 0: there is none.
	physical, logical, records int64
}

// nextBatch goes on to the next batch of a mirror's partition, or behind the records.
func (f *FetchResponse) nextBatch() {
	if f.recs >= oldHeaderSize {
		f.state = fetchBatch
		return
	}
	// Less than a header: a broker may cut the last batch where the limit of the fetch is, and
	// clients drop it.
	f.skip += f.recs
	f.endRecords()
}

// endRecords is called where the last batch of a partition that can be read has passed its header.
func (f *FetchResponse) endRecords() {
	f.recs = 0
	f.learn()
	f.afterRecords()
}

// learn teaches the timeline the last batch that was shown.
func (f *FetchResponse) learn() {
	if s := &f.shown; s.records > 0 {
		f.view.Timeline.Learn(s.physical, s.logical, s.records)
		s.records = 0
	}
}

// batchSize is the size of the token at the beginning of a batch.
func (f *FetchResponse) batchSize(b []byte) int {
	if len(b) <= magicAt || b[magicAt] < 2 {
		return oldHeaderSize
	}
	return min(batch.HeaderSize, f.recs)
}

// batch takes the header of one batch in a mirror.
func (f *FetchResponse) batch(b []byte) error {
	size, err := f.showBatch(b)
	if err != nil {
		return fmt.Errorf("partition %d of mirror topic %s: %w", f.part, f.topicForError(), err)
	}
	f.recs -= len(b)
	f.skip = min(size-len(b), f.recs)
	f.recs -= f.skip
	if f.voiding {
		f.voiding, f.toVoid = false, f.skip
	}
	f.nextBatch()
	return nil
}

// showBatch makes the header b what clients see. size is that of the whole batch.
//
// A batch of a mirror is shown at the offset of its stamp. It is voided, so that no client sees its
// records, if it does not belong there:
//
//   - It does not count (batch.Counts): somebody wrote it to the destination around klink, or it is
//     an append of klink's that came a second time, too late, or behind one that was refused.
//   - It was sent before the append in front of it was confirmed, and that one does not stand there
//     (batch.Chain).
//   - Its offset is below what this response has shown, though the offsets of a log only grow. (The
//     first batch of a response may begin below the offset of the request; every client skips what
//     is below that.)
//   - It is a filler, which uses offsets up (batch.Filler).
//   - It stands behind the end of a stopped mirror, and has a stamp: a request that klink took for
//     lost was carried out after the stop. Nothing but klink writes producer ids below -1. The
//     offsets that it has taken are a hole, over which readers go: the void batch stands at the
//     last of them.
//
// The timeline learns where void batches are, so that no reader is sent there again: a reader at
// the end of the log would otherwise get the same one again and again.
func (f *FetchResponse) showBatch(b []byte) (size int, err error) {
	if b[magicAt] < 2 {
		return f.showOld(b)
	}
	if len(b) < batch.HeaderSize {
		return len(b), nil // cut in the header
	}
	if size, err = batch.Peek(b); err != nil {
		return 0, err
	}
	h, line := batch.Header(b), f.view.Timeline
	physical, records := h.BaseOffset(), int64(h.LastOffsetDelta())+1
	if physical < 0 || records < 1 {
		return 0, fmt.Errorf("%w: batch of %d records at offset %d", ErrMalformed, records, physical)
	}
	logical, flags, _, stamped := batch.ReadStamp(b)
	if !f.view.Stamped && line.Behind(physical) {
		logical = line.BaseToLogical(physical)
		if stamped {
			f.shown.any, f.shown.next = true, logical+records
			return size, f.voidAt(h, logical+records-1)
		}
		return size, f.show(b, logical, records)
	}
	verdict := f.judge(h, logical)
	switch back := f.shown.any && logical < f.shown.next; {
	case verdict == batch.VerdictVoid || back:
		f.shown.chain.Reject()
		f.learn() // what comes next at physical
		if !back || !f.shown.unsure {
			line.LearnVoid(physical, physical+records)
		}
		return size, f.voidBatch(h)
	case flags&batch.FlagFiller != 0:
		return size, f.voidBatch(h)
	case verdict == batch.VerdictUnsure:
		f.shown.unsure = true
		line.Glimpse(physical+records, logical+records)
		return size, f.show(b, logical, records)
	}
	f.shown.physical, f.shown.logical, f.shown.records = physical, logical, records
	return size, f.show(b, logical, records)
}

// judge says whether the batch counts. What stands before the first one of a response has not
// passed; the timeline knows it, but for the rare case that it has forgotten the place since the
// request.
//
// A batch of which that is not known is shown. It was sent in the belief that all before it is in
// the log, so what its stamp says of its records is true, and the client has asked for one of them,
// or for one behind what it has. But nobody may be sent there by it.
func (f *FetchResponse) judge(h batch.Header, logical int64) batch.Verdict {
	verdict := f.shown.chain.See(h)
	if verdict == batch.VerdictUnsure && !f.shown.unsure {
		if counts, sure := f.view.Timeline.Before(h.BaseOffset(), logical); sure {
			verdict = f.shown.chain.Settle(counts)
		}
	}
	return verdict
}

// show shows a batch at a logical offset.
func (f *FetchResponse) show(b []byte, logical, records int64) error {
	f.shown.any, f.shown.next = true, logical+records
	return batch.Restore(b, logical)
}

// voidBatch makes the batch void, at the offset before the next to be read: no client goes anywhere
// by it.
func (f *FetchResponse) voidBatch(h batch.Header) error {
	next := f.shown.next
	if !f.shown.any {
		next = f.view.Timeline.ToLogical(h.BaseOffset()) // not what is only announced
	}
	return f.voidAt(h, next-1)
}

// voidAt makes the batch void, at a logical offset.
func (f *FetchResponse) voidAt(h batch.Header, at int64) error {
	physical := h.BaseOffset()
	if f.Voided != nil {
		f.Voided(f.view, physical)
	}
	v, ok := batch.NewVoider(h, at)
	if !ok {
		return fmt.Errorf("%w: batch of %d bytes at offset %d", ErrMalformed, h.Size(), physical)
	}
	f.void, f.voiding = v, true
	return nil
}

// showOld makes the header of a message of the formats v0 and v1 what clients see. klink appends v2
// only, but a broker converts what it sends to Fetch v0 to v3, or what is written after a mirror
// was stopped. Stamps are lost by that, so the offset has to be known without. The offset of a
// compressed message of v1 is that of the last record in it, and the others count from there; those
// in one of v0 are absolute and out of reach.
func (f *FetchResponse) showOld(b []byte) (size int, err error) {
	size = 12 + int(int32(binary.BigEndian.Uint32(b[8:])))
	physical := int64(binary.BigEndian.Uint64(b))
	switch {
	case size < oldHeaderSize || physical < 0:
		return 0, fmt.Errorf("%w: message of %d bytes at offset %d", ErrMalformed, size, physical)
	case b[magicAt] == 0 && b[oldAttributesAt]&oldCodecMask != 0:
		return 0, errors.New("the broker sent compressed messages of format v0, in which offsets cannot be translated; use Fetch v2 or later")
	}
	logical, ok := f.view.Timeline.RecordAt(physical)
	if !ok {
		return 0, fmt.Errorf("a message at offset %d of the destination without a stamp that says its offset; use Fetch v4 or later", physical)
	}
	binary.BigEndian.PutUint64(b, uint64(logical))
	return size, nil
}
