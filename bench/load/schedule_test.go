package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSchedule: producers share a rate evenly, and no record is sent twice or left out by rounding,
// after days neither.
func TestSchedule(t *testing.T) {
	a, b := schedule{rate: 1000, producers: 2}, schedule{rate: 1000, producers: 2, producer: 1}
	require.Equal(t, []time.Duration{0, 2 * time.Millisecond, 4 * time.Millisecond}, []time.Duration{a.at(0), a.at(1), a.at(2)})
	require.Equal(t, []time.Duration{time.Millisecond, 3 * time.Millisecond}, []time.Duration{b.at(0), b.at(1)})
	require.Equal(t, 48*time.Hour, a.at(48*3600*500))
	for _, rate := range []float64{0.1, 1, 3, 1000, 33333.3} {
		total := uint64(0)
		for i := range 7 {
			s := schedule{rate: rate, producers: 7, producer: i}
			n := s.within(10 * time.Second)
			total += n
			if n > 0 {
				require.Less(t, s.at(n-1), 10*time.Second)
			}
			require.GreaterOrEqual(t, s.at(n), 10*time.Second-time.Microsecond)
		}
		require.InDelta(t, rate*10, total, 1)
	}
}
