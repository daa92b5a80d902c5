package core

import "time"

const (
	// MaxReach is the largest factor by which a fetch asks a far source for more.
	MaxReach = 32
	// farAway is the time to the first byte of a response from which on the source counts as far.
	farAway = 5 * time.Millisecond
)

// Reach is the factor by which fetches from a broker ask for more than usual. A broker answers a
// fetch at once when it has data. So a fetch that came back full, but after a wait, shows distance.
// While a fetcher waits no data is on its way, as it has one fetch in flight. The longer the
// transfer takes compared with the wait, the better the connection is used: the reach doubles until
// the wait is at most an eighth of the transfer.
//
// It is 1 at least; the zero value is not ready for use.
type Reach int64

// Learn adapts the reach to one fetch. full: the response had as much as the fetch asked for, of
// some partition or altogether. wait is the time to the first byte, transfer the time for the rest.
func (r *Reach) Learn(full bool, wait, transfer time.Duration) {
	switch {
	case !full:
	case wait > farAway && wait*8 > transfer:
		*r = min(2**r, MaxReach)
	case wait < farAway/2 && *r > 1:
		*r /= 2 // nearer now: the route has changed, or the broker was slow
	}
}

// Times returns n times the reach, at most most.
func (r Reach) Times(n, most int64) int64 { return min(n*int64(max(r, 1)), most) }
