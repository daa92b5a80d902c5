package replicator

import "klink/replicator/memory"

// item is the unit that a partition appends: one stamped batch on its way from the source to the
// destination, or a run of markers, which fill a hole of the source (see markers.go).
type item struct {
	bytes   []byte        // may alias a fetch response; frame accounts for it. nil = markers
	base    int64         // logical offset of the first record or marker
	records int32         // also the number of offsets: batches and runs of markers are dense
	seen    epochEnd      // the last batch of the source that lies before end; see truncation.go
	frame   *memory.Frame // nil for markers, and in tests of the core
}

// markers reports whether the item is a run of markers.
func (i item) markers() bool { return i.bytes == nil }

// kind returns the kind of request that the item goes in.
func (i item) kind() unitKind {
	if i.markers() {
		return markerUnits
	}
	return batchUnits
}

// end returns the logical offset after the last record.
func (i item) end() int64 { return i.base + int64(i.records) }
