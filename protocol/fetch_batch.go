package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// The header of a message in format v0 or v1 (LegacyRecord): offset int64, size int32, crc uint32,
// magic int8, attributes int8. Magic stands at the same place as in v2.
const (
	oldHeaderSize   = 18
	magicAt         = 16
	oldAttributesAt = 17
	oldCodecMask    = 0x07
)

// blankHead is how many bytes of hidden records must be in one piece: up to the magic of the first
// batch.
const blankHead = magicAt + 1

// blankRecords turns b, the beginning of hidden records, into the beginning of a batch that was cut
// short. The caller fills the rest of the records with zeros. Brokers cut a batch at the size limit
// of the fetch, so every client can read such a response, and finds no record in it. The error code
// of a hidden partition is not enough: anybody could look at the bytes, and franz-go returns
// records beside an error that it does not retry.
func blankRecords(b []byte) {
	clear(b)
	if len(b) == blankHead {
		binary.BigEndian.PutUint32(b[8:], blankSize)
		b[magicAt] = 2
	}
}

// blankSize is the size in bytes that the batch over hidden records claims. It is more than the
// records have, and so far from the largest int32 that clients can add to it.
const blankSize = 1 << 30

// shown records which records of one partition the client has been shown.
type shown struct {
	any   bool  // a batch was shown
	next  int64 // logical offset after the last batch that was shown
	chain batch.Chain
	// unsure: a batch was shown that may not count (batch.VerdictUnsure). The timeline learns
	// nothing from it.
	unsure bool
	// The last batch that counts, if the timeline has not learned it yet. records = 0: there is
	// none.
	physical, logical, records int64
}

// nextBatch moves to the next batch of a mirror's partition, or behind the records.
func (f *FetchResponse) nextBatch() {
	if f.recs >= oldHeaderSize {
		f.state = fetchBatch
		return
	}
	// Less than a header is left. A broker may cut the last batch at the size limit of the fetch,
	// and clients drop it.
	f.skip += f.recs
	f.endRecords()
}

// endRecords is called after the header of the partition's last readable batch has passed.
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

// batchSize returns the size of the token at the beginning of a batch.
func (f *FetchResponse) batchSize(b []byte) int {
	if len(b) <= magicAt || b[magicAt] < 2 {
		return oldHeaderSize
	}
	return min(batch.HeaderSize, f.recs)
}

// batch handles the header of one batch in a mirror.
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

// showBatch rewrites the header b to what clients see. size is that of the whole batch.
//
// A client sees a batch of a mirror at the offset of its stamp. klink voids the batch, so that no
// client sees its records, in any of these cases:
//
//   - It does not count (batch.Counts): somebody wrote it to the destination around klink, or
//     klink's append arrived twice, too late, or behind one that was refused.
//   - It was sent before the append in front of it was confirmed, and that append does not stand in
//     front of it (batch.Chain).
//   - Its offset is below what this response has shown, although the offsets of a log only grow.
//     (The first batch of a response may begin below the offset of the request. Every client skips
//     the records below that offset.)
//   - It is a filler, which only uses up offsets (batch.Filler).
//   - It stands behind the end of a stopped mirror, and has a stamp: a request that klink believed
//     lost was carried out after the stop. Only klink writes producer ids below -1. The offsets
//     that the batch has taken are a hole that readers skip: the void batch stands at the last of
//     them.
//
// The timeline learns where void batches are, so that klink sends no reader there again. A reader
// at the end of the log would otherwise get the same void batch again and again.
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
		f.learn() // first, as LearnVoid needs to know which logical offset comes next at physical
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

// judge returns whether the batch counts. The batch before the first one of a response has not
// passed, so judge asks the timeline. In rare cases the timeline has forgotten the place since the
// request.
//
// If the timeline does not know, the client is shown the batch. The owner sent it in the belief
// that everything before it is in the log, so what its stamp says of its records is true. And the
// client has asked for one of them, or for one behind what it has. But klink must not send a reader
// anywhere because of this batch.
func (f *FetchResponse) judge(h batch.Header, logical int64) batch.Verdict {
	verdict := f.shown.chain.See(h)
	if verdict == batch.VerdictUnsure && !f.shown.unsure {
		if counts, sure := f.view.Timeline.Before(h.BaseOffset(), logical); sure {
			verdict = f.shown.chain.Settle(counts)
		}
	}
	return verdict
}

// show rewrites a batch so that clients see it at a logical offset.
func (f *FetchResponse) show(b []byte, logical, records int64) error {
	f.shown.any, f.shown.next = true, logical+records
	return batch.Restore(b, logical)
}

// voidBatch makes the batch void, at the offset before the next one that the client reads. So the
// void batch moves no client's position.
func (f *FetchResponse) voidBatch(h batch.Header) error {
	next := f.shown.next
	if !f.shown.any {
		next = f.view.Timeline.ToLogical(h.BaseOffset()) // announced records do not raise it
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

// showOld rewrites the header of a message in format v0 or v1 to what clients see. klink appends
// only v2, but a broker converts batches for Fetch v0 to v3, and what others write after a mirror
// was stopped may be old. The conversion loses the stamp, so the timeline must know the offset. A
// compressed message of v1 has the offset of the last record in it, and the inner offsets are
// relative to that. The inner offsets of a compressed v0 message are absolute, and klink cannot
// reach them.
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
