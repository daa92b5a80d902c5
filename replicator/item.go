package replicator

// item is one stamped batch on its way from the source to the destination.
type item struct {
	bytes   []byte // aliases a fetch response, which frame accounts for
	base    int64  // logical offset of the first record
	records int32  // also the number of offsets: the batch is dense
	maxTime int64  // largest record timestamp, Unix milliseconds
	frame   *frame // nil in tests of the core
}

// end is the logical offset after the last record.
func (i item) end() int64 { return i.base + int64(i.records) }
