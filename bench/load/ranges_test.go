package load

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestRanges compares with a set that keeps every number.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sets [2]ranges
		var twins [2]map[uint64]bool
		for i := range sets {
			twins[i] = map[uint64]bool{}
			next := uint64(0)
			for range rapid.IntRange(0, 6).Draw(t, "adds") {
				first := next + rapid.Uint64Range(0, 3).Draw(t, "gap")
				next = first + rapid.Uint64Range(1, 5).Draw(t, "length")
				sets[i].add(first, next-1, 0)
				for n := first; n < next; n++ {
					twins[i][n] = true
				}
			}
			for range rapid.IntRange(0, 8).Draw(t, "removes") {
				n := rapid.Uint64Range(0, 50).Draw(t, "n")
				require.Equal(t, twins[i][n], sets[i].remove(n))
				delete(twins[i], n)
			}
			require.Equal(t, uint64(len(twins[i])), count(sets[i].spans))
		}
		var want, got []uint64
		for n := range twins[0] {
			if !twins[1][n] {
				want = append(want, n)
			}
		}
		for _, s := range sets[0].without(&sets[1]) {
			for n := s.first; n <= s.last; n++ {
				got = append(got, n)
			}
		}
		slices.Sort(want)
		require.Equal(t, want, got)
	})
}
