package replicator

import (
	"sync"

	"klink/replicator/memory"
)

// recoding accounts for the memory in which large batches are rebuilt (batch.Recoder), over all
// sources.
//
// Only one large batch is rebuilt at a time, so that a source with many of them cannot take the
// memory of several. recoding does not wait for room in the budget: the goroutines that wait for
// their turn here may hold that room. Instead the budget goes below zero, and no fetch is sent
// until it is above zero again.
type recoding struct {
	budget *memory.Budget
	turn   sync.Mutex
}

// account returns a batch.Recoder.Account for one Recoder.
func (r *recoding) account() func(delta int64) {
	taken := int64(0)
	return func(delta int64) {
		if taken == 0 && delta > 0 {
			r.turn.Lock()
		}
		taken += delta
		r.budget.Put(-delta)
		if taken == 0 && delta < 0 {
			r.turn.Unlock()
		}
	}
}
