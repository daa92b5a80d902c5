package protocol

import (
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// nextBatch goes on to the next batch of a mirror's partition, or behind the records.
func (f *FetchResponse) nextBatch() {
	if f.recs >= batch.HeaderSize {
		f.state = fetchBatch
		return
	}
	// Less than a header: a broker may cut the last batch where the limit of the fetch is, and clients drop it.
	f.skip += f.recs
	f.recs = 0
	f.afterRecords()
}

// batch takes the header of one batch in a mirror.
func (f *FetchResponse) batch(b []byte) error {
	f.recs -= len(b)
	size, err := batch.Peek(b)
	switch {
	case errors.Is(err, batch.ErrOldFormat):
		// A mirror has no batches of the formats v0 and v1, klink appends v2 only. What somebody else wrote there
		// has no header that could be followed.
		f.skip, f.recs = f.recs, 0
		f.afterRecords()
		return nil
	case err == nil:
		err = batch.Restore(b, logicalBase(b, f.view))
	}
	if err != nil {
		return fmt.Errorf("partition %d of mirror topic %s: %w", f.part, f.topicForError(), err)
	}
	f.skip = min(size-len(b), f.recs)
	f.recs -= f.skip
	f.nextBatch()
	return nil
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
