package memory

import (
	"sync"
)

// Recoding accounts for the memory in which large batches are rebuilt (batch.Recoder), over all
// sources.
//
// Only one large batch is rebuilt at a time, so that a source with many of them cannot take the
// memory of several. Recoding does not wait for room in the budget: the goroutines that wait for
// their turn here may hold that room. Instead the budget goes below zero, and no fetch is sent
// until it is above zero again.
type Recoding struct {
	Budget *Budget
	Turn   sync.Mutex
}

// Account returns a batch.Recoder.Account for one Recoder.
func (r *Recoding) Account() func(delta int64) {
	taken := int64(0)
	return func(delta int64) {
		if taken == 0 && delta > 0 {
			r.Turn.Lock()
		}
		taken += delta
		r.Budget.Put(-delta)
		if taken == 0 && delta < 0 {
			r.Turn.Unlock()
		}
	}
}
