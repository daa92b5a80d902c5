package load

import "sync/atomic"

// ledger records what all producers have written to one partition.
type ledger struct {
	acked atomic.Int64 // records that were acknowledged (with acks=0: sent)
	// sum is the sum of the places of the acknowledged records. Comparing one sum of what was
	// written with one of what was read shows whether any offset has changed, without keeping
	// offsets.
	sum atomic.Uint64
	// perProducer has an entry for each producer. Only that producer uses it until it has ended.
	perProducer []written
}

// written records what one producer has written to a partition.
type written struct {
	next uint64 // sequence of the next record
	// failed holds the sequences that were not acknowledged. The log may or may not have them.
	failed ranges
}

// place hashes the offset and the identity of a record into a number. If one of them differs, sums
// of such numbers differ.
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
