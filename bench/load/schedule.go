package load

import (
	"math"
	"time"
)

// schedule says when a producer's records are to be sent: the k-th of producer i of n at (k*n + i)
// / rate after the start. It is fixed before the run and knows nothing of how fast the cluster is,
// so a producer that was held up sends what is due at once, with the times at which it should have
// been sent.
type schedule struct {
	rate      float64 // records a second of all producers; 0 = as fast as possible
	producers int
	producer  int
}

// at is when record k is to be sent, since the start.
func (s schedule) at(k uint64) time.Duration {
	n := k*uint64(s.producers) + uint64(s.producer)
	whole, part := math.Modf(float64(n) / s.rate)
	return time.Duration(whole)*time.Second + time.Duration(part*float64(time.Second))
}

// within is how many records are to be sent in the time from the start.
func (s schedule) within(d time.Duration) uint64 {
	n := math.Ceil(s.rate*d.Seconds()) - float64(s.producer) // of all producers, from the first of this one on
	return uint64(max(0, math.Ceil(n/float64(s.producers))))
}
