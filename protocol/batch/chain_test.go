package batch

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestChain: a batch with FlagFollows counts only behind its predecessor.
func TestChain(t *testing.T) {
	at := func(base, logical int64, follows bool) Header {
		h := Header(newBatch(0, 0, 1, []byte("r")))
		require.NoError(t, Stamp(h, logical, 3))
		SetPlace(h, base)
		if follows {
			SetPlaceAfter(h, base)
		}
		require.True(t, VerifyCRC(h))
		h.SetBaseOffset(base)
		return h
	}
	foreign := func(base int64) Header { return newBatch(base, 0, 1, []byte("r")) }
	marker := func(base int64) Header {
		h := at(base, base, false)
		h.setAttributes(bitControl)
		return h
	}
	for name, c := range map[string]struct {
		begin [2]int64
		log   []Header
		want  []Verdict
	}{
		"a window":                          {log: []Header{at(5, 50, false), at(6, 51, true), at(7, 52, true)}, want: []Verdict{VerdictCounts, VerdictCounts, VerdictCounts}},
		"a stranger in the first place":     {log: []Header{at(4, 49, false), foreign(5), at(6, 51, true), at(7, 52, true), at(8, 50, false)}, want: []Verdict{VerdictCounts, VerdictVoid, VerdictVoid, VerdictVoid, VerdictCounts}},
		"another record in the first place": {log: []Header{at(5, 40, false), at(6, 51, true)}, want: []Verdict{VerdictCounts, VerdictVoid}},
		"from the middle":                   {log: []Header{at(6, 51, true), at(7, 52, true), at(8, 53, false), at(9, 54, true)}, want: []Verdict{VerdictUnsure, VerdictUnsure, VerdictCounts, VerdictCounts}},
		"from the middle, and wrong":        {log: []Header{at(6, 51, true), at(7, 53, true), at(8, 54, true)}, want: []Verdict{VerdictUnsure, VerdictVoid, VerdictVoid}},
		"what was there is gone":            {log: []Header{at(3, 48, false), at(6, 51, true)}, want: []Verdict{VerdictCounts, VerdictCounts}},
		"behind a void batch that is gone":  {log: []Header{foreign(3), at(6, 51, true)}, want: []Verdict{VerdictVoid, VerdictCounts}},
		"from a known place":                {begin: [2]int64{6, 51}, log: []Header{at(6, 51, true)}, want: []Verdict{VerdictCounts}},
		"from a known place, and wrong":     {begin: [2]int64{6, 50}, log: []Header{at(6, 51, true)}, want: []Verdict{VerdictVoid}},
		"behind a marker":                   {log: []Header{marker(5), at(6, 6, true)}, want: []Verdict{VerdictCounts, VerdictCounts}},
		"elsewhere":                         {log: []Header{at(5, 50, false), func() Header { h := at(7, 51, true); h.SetBaseOffset(6); return h }()}, want: []Verdict{VerdictCounts, VerdictVoid}},
	} {
		var chain Chain
		if c.begin != [2]int64{} {
			chain.Begin(c.begin[0], c.begin[1])
		}
		for i, h := range c.log {
			require.Equal(t, c.want[i], chain.See(h), "%s: batch %d", name, i)
		}
	}
	var chain Chain
	require.Equal(t, VerdictUnsure, chain.See(at(6, 51, true)))
	again := chain
	chain.Settle(true)
	require.Equal(t, VerdictCounts, chain.See(at(7, 52, true)))
	again.Settle(false)
	require.Equal(t, VerdictVoid, again.See(at(7, 52, true)))
	chain.Reject()
	require.Equal(t, VerdictVoid, chain.See(at(8, 53, true)))
}

// TestChainFromAnywhere: a reader that begins in the middle of the log is never sure of a verdict
// that differs from that of a reader that began at the start.
func TestChainFromAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log []Header
		base, logical := int64(0), int64(100)
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			h := Header(newBatch(0, 0, 1, []byte("r")))
			if rapid.IntRange(0, 4).Draw(t, "kind") > 0 {
				logical += rapid.SampledFrom([]int64{0, 0, 0, 1, -1}).Draw(t, "hole")
				require.NoError(t, Stamp(h, logical, 3))
				setPlace(h, base, rapid.SampledFrom([]int16{0, FlagFollows}).Draw(t, "follows"))
				logical++
			}
			h.SetBaseOffset(base)
			base++
			log = append(log, h)
		}
		var whole Chain
		whole.Begin(0, 100)
		var verdicts []Verdict
		for _, h := range log {
			verdicts = append(verdicts, whole.See(h))
			require.NotEqual(t, VerdictUnsure, verdicts[len(verdicts)-1])
		}
		from := rapid.IntRange(0, len(log)-1).Draw(t, "from")
		var part Chain
		for i, h := range log[from:] {
			if v := part.See(h); v != VerdictUnsure {
				require.Equal(t, verdicts[from+i], v, "batch %d from %d", from+i, from)
			}
		}
	})
}
