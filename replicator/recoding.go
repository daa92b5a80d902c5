package replicator

import "sync"

// recoding accounts for the memory in which large batches are made anew (batch.Recoder), over all
// sources.
//
// One large batch is made anew at a time, so that a source that has many cannot have the memory of
// several taken. It waits for no room in the budget: what is held there may be held by those who
// wait for their turn here. Instead the budget goes below zero, and no fetch is sent until it is
// above again.
type recoding struct {
	budget *budget
	turn   sync.Mutex
}

// account is batch.Recoder.Account for one Recoder.
func (r *recoding) account() func(delta int64) {
	taken := int64(0)
	return func(delta int64) {
		if taken == 0 && delta > 0 {
			r.turn.Lock()
		}
		taken += delta
		r.budget.put(-delta)
		if taken == 0 && delta < 0 {
			r.turn.Unlock()
		}
	}
}
