package load

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// testLog is what producers have written, and what readers get of it.
type testLog struct {
	records []logged
	ledgers []*ledger
}

type logged struct {
	partition int32
	offset    int64
	timestamp int64
	value     []byte
}

const testRun = 0x1234_5678_9abc_def0

// newLog has 20 records in each of two partitions, of two producers in turn, from offset 100 on.
func newLog(t *testing.T) *testLog {
	l := &testLog{ledgers: newLedgers(2, 2)}
	stock, err := newPayloads(PayloadJSON, 60, 1)
	require.NoError(t, err)
	for p := range uint32(2) {
		for i := range int64(20) {
			producer := uint32(i % 2)
			w := &l.ledgers[p].perProducer[producer]
			value := make([]byte, 100)
			stock.fill(value[MinRecordSize:], uint64(i))
			h := header{run: testRun, producer: producer, partition: p, sequence: w.next, intended: 1_700_000_000_123_456_789 + i}
			h.seal(value)
			l.ledgers[p].acked.Add(1)
			l.ledgers[p].sum.Add(place(100+i, producer, w.next))
			w.next++
			l.records = append(l.records, logged{int32(p), 100 + i, 1_700_000_000_123, value})
		}
	}
	return l
}

func (l *testLog) read(fresh, offsets bool) Verification {
	v := newVerifier(testRun, 2, []int64{100, 100}, fresh)
	for _, r := range l.records {
		v.read(r.partition, r.offset, r.timestamp, r.value)
	}
	return v.finish(l.ledgers, offsets)
}

// renumber gives the records of partition 0 new offsets, as a log does that takes them in this
// order.
func (l *testLog) renumber() {
	next := int64(100)
	for i := range l.records {
		if l.records[i].partition == 0 {
			l.records[i].offset = next
			next++
		}
	}
}

// TestVerification: every kind of damage is found and named with its place. An undamaged log is
// found to be undamaged.
func TestVerification(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(l *testLog)
		damage map[Damage]int64
		first  Finding
		old    bool // the topic is not this run's
	}{
		{name: "whole", do: func(*testLog) {}, damage: map[Damage]int64{}},
		{
			name: "a record left out", do: func(l *testLog) { l.records = slices.Delete(l.records, 5, 6); l.renumber() },
			damage: map[Damage]int64{Missing: 1}, first: Finding{Missing, 0, 106, "record 2 was missing before this offset, of producer 1"},
		},
		{
			name: "a record left out and its offset too", do: func(l *testLog) { l.records = slices.Delete(l.records, 5, 6) },
			damage: map[Damage]int64{Missing: 1, Holes: 1}, first: Finding{Holes, 0, 105, "offset 105 has no record"},
		},
		{
			name: "the end never read", do: func(l *testLog) { l.records = l.records[:36] },
			damage: map[Damage]int64{Missing: 4}, first: Finding{Missing, 1, -1, "records 8 to 9 were acknowledged but not read, of producer 0"},
		},
		{
			name: "a partition never read", do: func(l *testLog) { l.records = l.records[:20] },
			damage: map[Damage]int64{Missing: 20}, first: Finding{Missing, 1, -1, "records 0 to 9 were acknowledged but not read, of producer 0"},
		},
		{
			name: "a record twice", do: func(l *testLog) { l.records = slices.Insert(l.records, 6, l.records[5]); l.renumber() },
			damage: map[Damage]int64{Doubled: 1}, first: Finding{Doubled, 0, 106, "record 2 of producer 1 came again"},
		},
		{
			name: "a batch twice", do: func(l *testLog) { l.records = slices.Insert(l.records, 20, l.records[10:20]...); l.renumber() },
			damage: map[Damage]int64{Doubled: 10}, first: Finding{Doubled, 0, 120, "record 5 of producer 0 came again"},
		},
		{
			name: "two in the other order", do: func(l *testLog) { l.records[4], l.records[6] = l.records[6], l.records[4]; l.renumber() },
			damage: map[Damage]int64{Reordered: 1}, first: Finding{Reordered, 0, 106, "record 2 of producer 0 came after record 3"},
		},
		{
			name: "offsets going back", do: func(l *testLog) { l.records[7].offset = 103 },
			damage: map[Damage]int64{Reordered: 1, Holes: 1}, first: Finding{Reordered, 0, 103, "the record came after offset 106"},
		},
		{
			name: "a byte of the payload", do: func(l *testLog) { l.records[7].value[70] ^= 1 },
			damage: map[Damage]int64{Changed: 1}, first: Finding{Changed, 0, 107, "the checksum does not match the record (100 bytes)"},
		},
		{
			name: "a bit of the sequence", do: func(l *testLog) { l.records[7].value[31] ^= 16 },
			damage: map[Damage]int64{Changed: 1, Missing: 1}, first: Finding{Changed, 0, 107, "the checksum does not match the record (100 bytes)"},
		},
		{
			name: "cut short", do: func(l *testLog) { l.records[7].value = l.records[7].value[:90] },
			damage: map[Damage]int64{Changed: 1}, first: Finding{Changed, 0, 107, "the checksum does not match the record (90 bytes)"},
		},
		{
			name: "the timestamp", do: func(l *testLog) { l.records[7].timestamp++ },
			damage: map[Damage]int64{Changed: 1}, first: Finding{Changed, 0, 107, "the timestamp is 1700000000124, but was sent as 1700000000123"},
		},
		{
			name: "the timestamp of the log", do: func(l *testLog) { l.records[7].timestamp = -1 }, damage: map[Damage]int64{},
		},
		{
			name: "the wrong partition", do: func(l *testLog) { l.records = append(l.records, logged{1, 120, -1, l.records[0].value}) },
			damage: map[Damage]int64{Misplaced: 1}, first: Finding{Misplaced, 1, 120, "the record was sent to partition 0"},
		},
		{
			name: "two producers exchanged", do: func(l *testLog) { l.records[4], l.records[5] = l.records[5], l.records[4]; l.renumber() },
			damage: map[Damage]int64{Moved: 1}, first: Finding{Moved, 0, -1, "some of its records were read at other offsets than those acknowledged"},
		},
		{
			name: "an offset left out", do: func(l *testLog) {
				for i := 30; i < 40; i++ {
					l.records[i].offset += 3
				}
			},
			damage: map[Damage]int64{Holes: 3}, first: Finding{Holes, 1, 110, "offsets 110 to 112 have no record"},
		},
		{
			name: "something else in a topic of ours", do: func(l *testLog) { l.records = append(l.records, logged{1, 120, -1, []byte("what is this")}) },
			damage: map[Damage]int64{Unknown: 1}, first: Finding{Unknown, 1, 120, "the record is not one that this run has written"},
		},
		{
			name: "something else in a topic of others", do: func(l *testLog) { l.records = append(l.records, logged{1, 120, -1, []byte("what is this")}) },
			damage: map[Damage]int64{}, old: true,
		},
		{
			name: "another run's record in a topic of others", do: func(l *testLog) {
				other := slices.Clone(l.records[0].value)
				header{run: testRun + 1}.seal(other)
				l.records = append(l.records, logged{1, 120, -1, other})
			},
			damage: map[Damage]int64{}, old: true,
		},
		{
			name: "not acknowledged and not there", do: func(l *testLog) {
				l.ledgers[1].perProducer[1].next++
				l.ledgers[1].perProducer[1].failed.add(10, 10, -1)
			},
			damage: map[Damage]int64{},
		},
		{
			name: "not acknowledged and there", do: func(l *testLog) {
				l.ledgers[1].perProducer[1].failed.add(9, 9, -1)
				l.ledgers[1].sum.Store(0)
			},
			damage: map[Damage]int64{},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t)
			c.do(l)
			v := l.read(!c.old, true)
			require.Equal(t, c.damage, v.Damage)
			if len(c.damage) == 0 {
				require.Empty(t, v.First)
			} else {
				require.Contains(t, v.First, c.first)
			}
		})
	}
}

// TestFindingsAreBounded: the first findings of each kind are listed, and all are counted, even if
// more records are missing than are kept.
func TestFindingsAreBounded(t *testing.T) {
	v := newVerifier(testRun, 1, []int64{0}, true)
	value := make([]byte, MinRecordSize)
	l := newLedgers(1, 1)
	const n = 3 * maxRanges
	for i := range int64(n) {
		header{run: testRun, sequence: uint64(2 * i)}.seal(value)
		v.read(0, i, -1, value)
	}
	l[0].perProducer[0].next = 2*n - 1
	found := v.finish(l, true)
	require.Equal(t, map[Damage]int64{Missing: n - 1}, found.Damage)
	require.Len(t, found.First, maxFindings)
	require.Len(t, v.partitions[0].producer[0].gaps.spans, maxRanges)
}

func TestControlRecordsAreNoHoles(t *testing.T) {
	l := newLog(t)
	v := newVerifier(testRun, 2, []int64{99, 100}, false)
	v.control(0, 99)
	for _, r := range l.records {
		v.read(r.partition, r.offset, r.timestamp, r.value)
	}
	require.Empty(t, v.finish(l.ledgers, true).Damage)
}
