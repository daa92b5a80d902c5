package core

import (
	"bytes"

	"klink/replicator/memory"
)

// Item is the unit that a partition appends: one stamped batch on its way from the source to the
// destination, or a run of markers, which fill a hole of the source (see markers.go).
type Item struct {
	Bytes   []byte        // may alias a fetch response; frame accounts for it. nil = markers
	Base    int64         // logical offset of the first record or marker
	Records int32         // also the number of offsets: batches and runs of markers are dense
	Seen    EpochEnd      // the last batch of the source that lies before end; see truncation.go
	Frame   *memory.Frame // nil for markers, and in tests of the core
}

// Markers reports whether the item is a run of markers.
func (i Item) Markers() bool { return i.Bytes == nil }

// Kind returns the kind of request that the item goes in.
func (i Item) Kind() UnitKind {
	if i.Markers() {
		return MarkerUnits
	}
	return BatchUnits
}

// End returns the logical offset after the last record.
func (i Item) End() int64 { return i.Base + int64(i.Records) }

// Pins reports whether the batch is a small part of the frame that it keeps in memory.
func (i *Item) Pins() bool {
	return !i.Markers() && i.Frame.Size >= 4*int64(len(i.Bytes))
}

// Unpin copies the batch out of its frame, if the budget has room for the copy.
func (i *Item) Unpin() {
	old := i.Frame
	own := old.Budget.TryFrame(int64(len(i.Bytes)))
	if own == nil {
		return
	}
	i.Bytes, i.Frame = bytes.Clone(i.Bytes), own
	old.Release()
}

// UnitKind is the kind of request that a unit goes in: Produce or WriteTxnMarkers.
type UnitKind uint8

// The kinds of requests.
const (
	BatchUnits UnitKind = iota
	MarkerUnits
	UnitKinds // how many there are
)
