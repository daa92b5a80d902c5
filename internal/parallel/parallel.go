package parallel

import "sync"

// maxParallel is how many elements of one request klink works on at a time.
const maxParallel = 64

// ForEach calls fn for 0 to n-1, several at a time, and returns when all calls have returned.
// Changes of the store that are made at the same time share a transaction.
func ForEach(n int, fn func(i int)) {
	var (
		all  sync.WaitGroup
		free = make(chan struct{}, maxParallel)
	)
	for i := range n {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			fn(i)
		})
	}
	all.Wait()
}
