package load

import "sync/atomic"

// ledger is what was written: one for each partition, kept for all producers.
type ledger struct {
	acked atomic.Int64 // records that were acknowledged (with acks=0: sent)
	// sum is the sum of the places of the acknowledged records: with one sum for what was written
	// and one for what was read no offset needs to be kept in order to find out that one has
	// changed.
	sum atomic.Uint64
	// perProducer is each producer's own, read by others only after it has ended.
	perProducer []written
}

// written is what a producer has written to a partition.
type written struct {
	next uint64 // sequence of the next record
	// failed are the sequences that were not acknowledged. They may be in the log or not.
	failed ranges
}

// place mixes where a record is and which it is into a number; sums of such numbers differ if one
// place differs.
func place(offset int64, producer uint32, sequence uint64) uint64 {
	h := uint64(offset)*0x9e3779b97f4a7c15 ^ sequence*0xbf58476d1ce4e5b9 ^ uint64(producer)*0x94d049bb133111eb
	h ^= h >> 31
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

func newLedgers(partitions, producers int) []*ledger {
	all := make([]*ledger, partitions)
	for i := range all {
		all[i] = &ledger{perProducer: make([]written, producers)}
	}
	return all
}
