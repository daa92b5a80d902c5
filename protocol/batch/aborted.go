package batch

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// AbortedTransaction is an entry of the list of aborted transactions that a read_committed Fetch
// response has for each partition.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64 // of the producer's first batch of the transaction
}

// Aborted finds the batches of a read_committed response that must be dropped: control batches, and
// the batches of aborted transactions. It uses the rule of Kafka's own consumer (CompletedFetch): a
// producer's batches are dropped from the first offset of an aborted transaction on until its abort
// marker, then from the first offset of its next aborted transaction on.
//
// Each response has its own list, which also covers transactions that began before it. The caller
// calls Reset before each response, then Drop for each of its batches in order. The zero value
// knows no aborted transactions. Not for use by several goroutines.
type Aborted struct {
	waiting []AbortedTransaction // by first offset; those from next on have not begun yet
	next    int
	open    map[int64]struct{} // producers in an aborted transaction
}

// Reset takes the list of a response, in any order. It copies the list, and reuses its own memory.
func (a *Aborted) Reset(list []AbortedTransaction) {
	a.waiting = append(a.waiting[:0], list...)
	slices.SortFunc(a.waiting, func(x, y AbortedTransaction) int { return cmp.Compare(x.FirstOffset, y.FirstOffset) })
	a.next = 0
	clear(a.open)
}

// Drop reports whether b, the next batch of the response, must be dropped, so that its offsets
// become a hole. b must be a whole batch that Classify accepts, not the header alone.
//
// A dropped batch is lost for good, so Drop verifies its checksum: if it is wrong, the error wraps
// ErrCorrupt. If Drop cannot read a control batch, the error wraps ErrMalformed or ErrUnsupported.
// After an error the mirror has to stop.
func (a *Aborted) Drop(b Header) (bool, error) {
	control := b.Control()
	if !control && (a.next == len(a.waiting) && len(a.open) == 0 || b.ProducerID() < 0) {
		return false, nil
	}
	id := b.ProducerID()
	for last := b.NextOffset() - 1; a.next < len(a.waiting) && a.waiting[a.next].FirstOffset <= last; a.next++ {
		if a.open == nil {
			a.open = map[int64]struct{}{}
		}
		a.open[a.waiting[a.next].ProducerID] = struct{}{}
	}
	_, aborted := a.open[id]
	if !control && (!b.Transactional() || !aborted) {
		return false, nil
	}
	if !VerifyCRC(b) {
		return false, fmt.Errorf("%w: wrong checksum at offset %d", ErrCorrupt, b.BaseOffset())
	}
	if !control || !aborted {
		return true, nil
	}
	abort, err := abortMarker(b)
	if err != nil {
		return false, err
	}
	if abort {
		delete(a.open, id)
	}
	return true, nil
}

// abortMarker reports whether the control batch b holds the marker of an aborted transaction.
// Compaction may have removed the marker.
func abortMarker(b Header) (bool, error) {
	if b.Count() == 0 {
		return false, nil
	}
	if b.Codec() != codecNone {
		return false, fmt.Errorf("%w: compressed control batch at offset %d", ErrUnsupported, b.BaseOffset())
	}
	r, _, err := nextRecord(b[HeaderSize:])
	if err != nil {
		return false, fmt.Errorf("control batch at offset %d: %w", b.BaseOffset(), err)
	}
	// The key: version and type, int16 each; 0 = abort, 1 = commit (Kafka's ControlRecordType).
	size, n := binary.Varint(r.what)
	if size < 4 {
		return false, fmt.Errorf("%w: control batch at offset %d has a key of %d bytes", ErrMalformed, b.BaseOffset(), size)
	}
	key := r.what[n:]
	if version := int16(binary.BigEndian.Uint16(key)); version < 0 {
		return false, fmt.Errorf("%w: control batch at offset %d has version %d", ErrMalformed, b.BaseOffset(), version)
	}
	return binary.BigEndian.Uint16(key[2:]) == 0, nil
}
