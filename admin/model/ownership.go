package model

import (
	"errors"
	"time"
)

// Owner says what this instance owns; the other instances own the rest. It is called with the
// store's lock held, so it must answer from memory.
type Owner interface {
	// OwnsTopic reports whether this instance owns a mirror right now, and so may store what only
	// the owner may.
	OwnsTopic(topic string) bool
	// OwnsPartition reports the same for a partition. The owner of the mirror, its coordinator,
	// need not own its partitions.
	OwnsPartition(topic string, partition int32) bool
	// OwnsLink reports the same for a link: for its health and its tasks.
	OwnsLink(link string) bool
}

// ErrNotOwner: nothing was stored, because another instance owns the mirror, partition or link.
var ErrNotOwner = errors.New("another instance of klink owns it")

// MinCompactionLag is the shortest time for which the destination's cleaner leaves a record of a
// compacted mirror alone, counted from the record's timestamp.
const MinCompactionLag = 10 * time.Minute
