package replicator

import "time"

const (
	// maxReach is the most by which a fetch asks for more of a far source.
	maxReach = 32
	// farAway is the least time to the first byte of an answer for its source to count as far.
	farAway = 5 * time.Millisecond
)

// reach is by which factor fetches from a broker ask for more than usual. A fetch is answered at
// once when there is data, so one that came full and had to be waited for means distance: nothing
// is on its way meanwhile, as there is one fetch in flight. The longer the transfer is against the
// wait, the fuller the pipe: the reach doubles until the wait is an eighth.
//
// It is 1 at least; the zero value is not ready for use.
type reach int64

// learn takes what a fetch has shown: whether it brought as much as it asked for, of some partition
// or altogether, how long its first byte and then the rest of it took.
func (r *reach) learn(full bool, wait, transfer time.Duration) {
	switch {
	case !full:
	case wait > farAway && wait*8 > transfer:
		*r = min(2**r, maxReach)
	case wait < farAway/2 && *r > 1:
		*r /= 2 // it came nearer: another way, or a broker that was slow
	}
}

// times is n by the reach, at most most.
func (r reach) times(n, most int64) int64 { return min(n*int64(max(r, 1)), most) }
