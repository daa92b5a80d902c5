package replicator

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is an exponential back-off with jitter of a fifth either way. The zero value needs low
// and high.
type backoff struct {
	low, high time.Duration
	last      time.Duration
}

// next returns how long to wait now.
func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, b.low), b.high)
	return b.last*4/5 + rand.N(b.last*2/5+1)
}

func (b *backoff) reset() { b.last = 0 }

// sleep waits for d. It returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
