package timeline

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLearnVoid: if the timeline knows the next logical offset at the place of a void batch, it
// sends a reader that asks for it behind the batch.
func TestLearnVoid(t *testing.T) {
	behind := func(p *Partition) { p.LearnProbe(0, 100, 10) } // the log is known to physical 10, logical 110
	for name, c := range map[string]struct {
		know  func(p *Partition)
		voids [][2]int64
		want  map[int64]int64 // physical by logical offsets
	}{
		"at the log end":           {behind, [][2]int64{{10, 12}}, map[int64]int64{109: 9, 110: 12}},
		"one behind another":       {behind, [][2]int64{{10, 12}, {12, 13}, {13, 20}}, map[int64]int64{110: 20}},
		"once more":                {behind, [][2]int64{{10, 12}, {10, 12}}, map[int64]int64{110: 12}},
		"at the log start":         {func(*Partition) {}, [][2]int64{{0, 3}}, map[int64]int64{100: 3}},
		"nobody knows what comes":  {behind, [][2]int64{{14, 16}}, map[int64]int64{110: 10}},
		"before a batch":           {func(p *Partition) { behind(p); p.LearnProbe(12, 110, 5) }, [][2]int64{{10, 12}}, map[int64]int64{110: 12, 114: 16}},
		"in a hole":                {func(p *Partition) { behind(p); p.LearnProbe(12, 120, 5); p.LearnProbe(10, 120, 0) }, [][2]int64{{10, 12}}, map[int64]int64{110: 12, 115: 12, 120: 12}},
		"a look has come within":   {func(p *Partition) { behind(p); p.LearnProbe(14, 120, 5); p.LearnProbe(11, 120, 0) }, [][2]int64{{10, 14}}, map[int64]int64{120: 14}},
		"of which nothing is void": {behind, [][2]int64{{5, 7}, {8, 12}, {-1, 2}, {12, 12}}, map[int64]int64{105: 5, 110: 10}},
		"below the start":          {behind, [][2]int64{{-5, -2}}, map[int64]int64{100: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Open(0, 100, 100)
			c.know(p)
			for _, v := range c.voids {
				p.LearnVoid(v[0], v[1])
			}
			for logical, want := range c.want {
				require.Equal(t, want, p.ToPhysical(logical), "logical %d", logical)
			}
		})
	}
}

// TestVoidBatchBeforeItsOwnerKnows: the owner of a partition may not append for a long time. Then
// it does not see what another writer has written at the end of the log, but readers do.
func TestVoidBatchBeforeItsOwnerKnows(t *testing.T) {
	for name, begin := range map[string]func() *Partition{
		"one run":  func() *Partition { p := Open(0, 100, 100); p.Own(0, 100, 100, true); return p },
		"new":      func() *Partition { return New(0, 100, 100) },
		"of holes": func() *Partition { p := Open(0, 90, 90); p.Own(0, 100, 100, false); return p },
	} {
		t.Run(name, func(t *testing.T) {
			p := begin()
			p.Extend(0, 100, 10)
			p.SetPhysicalEnd(10)
			p.SetLogicalEnd(112)
			p.LearnVoid(10, 12)
			p.LearnVoid(12, 15)
			require.EqualValues(t, 15, p.ToPhysical(110))
			require.EqualValues(t, 15, p.ToPhysical(112), "the hole at the end")
			require.EqualValues(t, -1, p.ToPhysical(113))
			require.EqualValues(t, 9, p.ToPhysical(109))
			require.EqualValues(t, 112, p.ToLogical(15))
			require.False(t, p.OneRun())

			// The owner does not know, and appends, which is void too; then it finds out.
			p.Extend(10, 112, 5)
			require.EqualValues(t, 9, p.ToPhysical(109))
			p.LearnVoid(15, 20)
			p.Own(20, 110, 112, false)
			require.EqualValues(t, 20, p.ToPhysical(112))
			p.Extend(20, 112, 5)
			p.SetPhysicalEnd(25)
			for logical, want := range map[int64]int64{109: 9, 112: 20, 116: 24, 117: 25} {
				require.Equal(t, want, p.ToPhysical(logical), "logical %d", logical)
			}
			require.EqualValues(t, 112, p.ToLogical(20))
		})
	}
}

// TestAnnouncedWhereAVoidBatchStands: records that were announced for the place of a void batch, or
// behind it, are not there.
func TestAnnouncedWhereAVoidBatchStands(t *testing.T) {
	p := Open(0, 100, 100)
	p.Own(0, 100, 100, true)
	p.Extend(0, 100, 10)
	p.SetPhysicalEnd(10)
	p.Extend(10, 110, 10)
	p.LearnVoid(10, 13)
	require.EqualValues(t, 13, p.ToPhysical(110))
	require.EqualValues(t, 110, p.ToLogical(13), "not 113")
	require.EqualValues(t, -1, p.ToPhysical(115))
	// Behind the end of a stopped mirror there is no void batch.
	p.End(13, 110, false)
	p.LearnVoid(13, 15)
	require.EqualValues(t, 13, p.ToPhysical(110))
	require.EqualValues(t, 115, p.ToLogical(18))
}

// TestStraight: holes and void offsets that cancel out do not make one run of two.
func TestStraight(t *testing.T) {
	p := Open(0, 100, 100)
	p.Own(20, 120, 120, false) // [100, 108), two void offsets, a hole of two, [110, 120)
	require.False(t, p.OneRun())
	_, _, ok := p.FindPhysical(109, 0)
	require.False(t, ok)
	p.End(20, 120, false)
	require.False(t, p.OneRun())
	_, _, ok = p.FindLogical(9)
	require.False(t, ok)

	p = Open(0, 100, 100)
	p.LearnProbe(5, 105, 2)
	p.Own(20, 120, 120, true)
	require.True(t, p.OneRun())
	require.EqualValues(t, 9, p.ToPhysical(109))
	p.Extend(20, 120, 5)
	require.True(t, p.OneRun())
	p.End(25, 125, true)
	require.True(t, p.OneRun())
	require.EqualValues(t, 30, p.ToPhysical(130))

	p = Open(0, 100, 100)
	p.End(20, 121, true) // a hole at the end
	require.False(t, p.OneRun())
	require.EqualValues(t, 20, p.ToPhysical(121))
}

// TestAnnouncedAndNotPublished: an owner that reads its log keeps only those of its announcements
// that it has seen there.
func TestAnnouncedAndNotPublished(t *testing.T) {
	p := Open(0, 100, 100)
	p.Own(0, 100, 100, true)
	p.Extend(0, 100, 10)
	p.SetPhysicalEnd(10)
	p.Extend(10, 110, 10) // did not land there: [110, 115), five void offsets, [115, 120)
	p.Own(25, 120, 120, false)
	require.EqualValues(t, 9, p.ToPhysical(109))
	require.LessOrEqual(t, p.ToPhysical(117), int64(22))
	_, _, ok := p.FindPhysical(117, 0)
	require.False(t, ok)
	l, _, ok := p.FindLogical(15)
	require.False(t, ok)
	require.LessOrEqual(t, l, int64(115))
}

// TestTheLogWins: a batch that counts overrides what was known about its place.
func TestTheLogWins(t *testing.T) {
	p := Open(0, 100, 100)
	p.LearnProbe(10, 120, 10)
	p.LearnProbe(40, 160, 10)
	p.LearnProbe(12, 115, 5) // the log was cut at 10 and went on otherwise
	p.LearnEnd(60)
	require.EqualValues(t, 14, p.ToPhysical(117))
	require.EqualValues(t, 42, p.ToPhysical(162))
	_, _, ok := p.FindPhysical(125, 0)
	require.False(t, ok)
	p.Learn(15, 118, 10) // as it passes
	require.EqualValues(t, 17, p.ToPhysical(120))
}

// TestSeekAmongVoidBatches: in a log of holes and void batches of all sizes, a reader that knows
// nothing finds any offset with few probes.
func TestSeekAmongVoidBatches(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	size := func(bits int) int64 { return random.Int64N(1 << random.IntN(bits)) }
	for range 20 {
		w := &logTwin{}
		for range 2000 {
			for range random.IntN(3) {
				n := 1 + size(30)
				w.batches = append(w.batches, twinBatch{p: w.end, n: n, void: true})
				w.end += n
			}
			w.append(nil, size(30), 1+random.Int64N(1000))
		}
		most, total := 0, 0
		const seeks = 200
		for range seeks {
			p := Open(0, 0, 0)
			w.probe(p, ProbeEnd)
			l := random.Int64N(w.next)
			got, probes := w.seek(p, l)
			require.True(t, w.near(got, w.physical(l)), "logical %d is found at %d, want %d", l, got, w.physical(l))
			most, total = max(most, probes), total+probes
		}
		require.LessOrEqual(t, most, 64)
		t.Logf("%d offsets: %.2f probes on average, %d at most", w.end, float64(total)/seeks, most)
	}
}

// TestManyVoidBatches: the number of void batches is not limited.
func TestManyVoidBatches(t *testing.T) {
	p := Open(0, 100, 100)
	p.LearnProbe(0, 100, 10)
	at := int64(10)
	for range 10_000 {
		p.LearnVoid(at, at+1)
		at++
	}
	require.Equal(t, at, p.ToPhysical(110))
	p.LearnProbe(at, 115, 5)
	require.Equal(t, at+2, p.ToPhysical(117))
	require.EqualValues(t, 9, p.ToPhysical(109))
	require.LessOrEqual(t, p.size(), 64<<10)
}

// A reader was sent behind a void batch. Then the owner, which did not know the batch, announced
// its append at that place. The append lands behind the void batch, and is void as well. The
// timeline must not believe that the announced records are in the log, or the reader would pass
// over them.
func TestVoidBehindWhatWasAnnounced(t *testing.T) {
	p := New(0, 0, 0)
	p.Own(838, 819, 819, false)
	p.LearnVoid(838, 839) // somebody else's
	if at := p.ToPhysical(819); at != 839 {
		t.Fatalf("offset 819 is looked for at %d", at)
	}
	p.Extend(838, 819, 8)
	p.LearnVoid(839, 847)
	if at := p.ToLogical(839); at != 819 {
		t.Errorf("the next record behind the void batch is said to be %d", at)
	}
	if at := p.ToPhysical(819); at > 839 {
		t.Errorf("offset 819 is looked for at %d, which nobody knows to be void up to there", at)
	}
	p.LearnVoid(838, 839)
	p.LearnVoid(839, 847)
	if at := p.ToPhysical(819); at != 847 {
		t.Errorf("offset 819 is looked for at %d", at)
	}
	// The timeline believes a confirmation, even if a reader has withdrawn the announcement before.
	p.Own(847, 819, 819, false)
	p.Extend(847, 819, 8)
	p.LearnVoid(855, 863)
	p.Appended(847, 819, 8)
	if at := p.ToLogical(855); at != 827 {
		t.Errorf("the log ends at %d", at)
	}
}
