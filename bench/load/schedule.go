package load

import (
	"math"
	"time"
)

// schedule says when the records of a producer are due: record k of producer i of n is due (k*n +
// i) / rate after the start. It is fixed before the run and does not depend on the speed of the
// cluster. So a producer that was delayed sends all due records at once, with the times at which
// they were due.
type schedule struct {
	rate      float64 // records a second of all producers; 0 = as fast as possible
	producers int
	producer  int
}

// at returns when record k is due, since the start.
func (s schedule) at(k uint64) time.Duration {
	n := k*uint64(s.producers) + uint64(s.producer)
	whole, part := math.Modf(float64(n) / s.rate)
	return time.Duration(whole)*time.Second + time.Duration(part*float64(time.Second))
}

// within returns how many records are due in the time from the start.
func (s schedule) within(d time.Duration) uint64 {
	n := math.Ceil(s.rate*d.Seconds()) - float64(s.producer) // of all producers, from the first of this one on
	return uint64(max(0, math.Ceil(n/float64(s.producers))))
}
