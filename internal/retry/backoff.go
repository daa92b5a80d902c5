package retry

import (
	"math/rand/v2"
	"time"
)

// Backoff is an exponential back-off with jitter of a fifth either way. The zero value needs low
// and high.
type Backoff struct {
	Low, High time.Duration
	last      time.Duration
}

// Next returns how long to wait now.
func (b *Backoff) Next() time.Duration {
	b.last = min(max(b.last*2, b.Low), b.High)
	return b.last*4/5 + rand.N(b.last*2/5+1)
}

// Reset makes the next wait the first again.
func (b *Backoff) Reset() { b.last = 0 }
