package memory

import (
	"context"
)

// MaxFillers bounds how many fillers are in memory at once, over all partitions and links. So a
// destination that is slow, or does not answer, holds up burns and nothing else.
const MaxFillers = 4

// FillerBytes is the most memory that klink needs for each record of a filler while it makes and
// sends the filler: ten bytes of the record, and at most one of the batch that zstd makes of it.
const FillerBytes = 11

// FillerRoom bounds the fillers in memory: at most maxFillers of them, and all within the budget of
// the replicator.
type FillerRoom struct {
	Slots  chan struct{}
	budget *Budget
}

// NewFillerRoom returns the room for fillers within a budget.
func NewFillerRoom(b *Budget) *FillerRoom {
	return &FillerRoom{Slots: make(chan struct{}, MaxFillers), budget: b}
}

// Take waits for room for a filler of n records. The caller gives the room back once the filler was
// answered. The error is ctx's.
//
// It waits for a slot first, so that a caller that waits for one holds nothing of the budget. A
// filler that is larger than all that can be reserved takes all of that.
func (r *FillerRoom) Take(ctx context.Context, n int) (give func(), err error) {
	select {
	case r.Slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	bytes := min(int64(n)*FillerBytes, r.budget.Reservable())
	if err := r.budget.Reserve(ctx, bytes); err != nil {
		<-r.Slots
		return nil, err
	}
	return func() {
		r.budget.Put(bytes)
		<-r.Slots
	}, nil
}
