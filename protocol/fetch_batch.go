package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// The header of a message of the formats v0 and v1 (LegacyRecord): offset int64, size int32, crc uint32, magic int8,
// attributes int8. Magic and what lies before it stand at the same place in v2.
const (
	oldHeaderSize   = 18
	magicAt         = 16
	oldAttributesAt = 17
	oldCodecMask    = 0x07
)

// blankHead is how much of hidden records has to be looked at in one piece: up to the magic of the first batch.
const blankHead = magicAt + 1

// blankRecords makes b, the beginning of hidden records of which the rest becomes zeros, the beginning of a batch that was
// cut short. Brokers cut batches where the limit of the fetch is, so that every client can read such a response, and finds
// no record in it. The error of a hidden partition is not enough: the bytes would be there for whoever looks, and franz-go
// hands out records beside an error that it does not retry.
func blankRecords(b []byte) {
	clear(b)
	if len(b) == blankHead {
		binary.BigEndian.PutUint32(b[8:], blankSize)
		b[magicAt] = 2
	}
}

// blankSize is the size that hidden records claim: more than there are, and far enough from the end of an int32 that
// clients can add to it.
const blankSize = 1 << 30

// nextBatch goes on to the next batch of a mirror's partition, or behind the records.
func (f *FetchResponse) nextBatch() {
	if f.recs >= oldHeaderSize {
		f.state = fetchBatch
		return
	}
	// Less than a header: a broker may cut the last batch where the limit of the fetch is, and clients drop it.
	f.skip += f.recs
	f.recs = 0
	f.afterRecords()
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
	f.nextBatch()
	return nil
}

// showBatch makes the header b what clients see. size is that of the whole batch.
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
	return size, batch.Restore(b, logicalBase(b, f.view))
}

// showOld makes the header of a message of the formats v0 and v1 what clients see. klink appends v2 only, but a broker
// converts what it sends to Fetch v0 to v3, or what is written after a mirror was stopped. The offset of a compressed
// message of v1 is that of the last record in it, and the others count from there; those in one of v0 are absolute and out
// of reach.
func (f *FetchResponse) showOld(b []byte) (size int, err error) {
	size = 12 + int(int32(binary.BigEndian.Uint32(b[8:])))
	switch {
	case size < oldHeaderSize:
		return 0, fmt.Errorf("%w: message of %d bytes", ErrMalformed, size)
	case b[magicAt] == 0 && b[oldAttributesAt]&oldCodecMask != 0:
		return 0, errors.New("the broker sent compressed messages of format v0, in which offsets cannot be translated; use Fetch v2 or later")
	}
	f.baseToLogical(b)
	return size, nil
}

// logicalBase is the base offset that clients see: the stamp where klink alone has written, which is right whatever the
// timeline says, and what the timeline says elsewhere.
func logicalBase(b []byte, v View) int64 {
	if v.Stamped {
		if logical, _, _, ok := batch.ReadStamp(b); ok {
			return logical
		}
	}
	return v.Timeline.BaseToLogical(batch.Header(b).BaseOffset())
}
