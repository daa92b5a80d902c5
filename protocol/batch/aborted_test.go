package batch

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// txnBatch makes a batch of a producer at an offset: "data", "plain" (not transactional), "commit",
// "abort".
func txnBatch(t testing.TB, kind string, offset, producer int64) Header {
	var b Header
	switch kind {
	case "data", "plain":
		b = newBatch(offset, 0, 1, makeRecordBytes(nil, []byte("v")))
		if kind == "data" {
			b.setAttributes(bitTransactional)
		}
	case "commit", "abort":
		key := []byte{0, 0, 0, 1}
		if kind == "abort" {
			key[3] = 0
		}
		b = newBatch(offset, bitTransactional|bitControl, 1, makeRecordBytes(key, []byte{0, 0, 0, 0, 0, 0}))
	default:
		t.Fatalf("no such batch: %s", kind)
	}
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(producer))
	fixCRC(b)
	return b
}

// TestAborted: each line is a response: the list of aborted transactions (producer@first offset),
// its batches (kind:offset/producer), and the batches that are left.
func TestAborted(t *testing.T) {
	for _, c := range []struct{ name, list, batches, left string }{
		{"no transactions", "", "plain:0/-1 plain:1/7", "0 1"},
		{"committed", "", "data:0/7 data:1/7 commit:2/7", "0 1"},
		{"aborted", "7@0", "data:0/7 data:1/7 abort:2/7", ""},
		{"aborted, then committed", "7@0", "data:0/7 abort:1/7 data:2/7 commit:3/7", "2"},
		{"committed, then aborted", "7@2", "data:0/7 commit:1/7 data:2/7 abort:3/7 data:4/7 commit:5/7", "0 4"},
		{"twice aborted", "7@0 7@4", "data:0/7 abort:1/7 data:2/7 commit:3/7 data:4/7 abort:5/7 data:6/7", "2 6"},
		{"the list in any order", "7@4 7@0", "data:0/7 abort:1/7 data:2/7 commit:3/7 data:4/7 abort:5/7", "2"},
		{"producers do not mix", "7@0", "data:0/7 data:1/8 plain:2/-1 abort:3/7 commit:4/8", "1 2"},
		{"both at once", "7@0 8@1", "data:0/7 data:1/8 abort:2/7 data:3/8 data:4/7 abort:5/8 commit:6/7", "4"},
		{"begun before the response", "7@-5", "data:0/7 abort:1/7 data:2/7", "2"},
		{"the marker is in a later response", "7@0", "data:0/7 data:1/7", ""},
		{"a producer's batches without a transaction", "7@0", "plain:0/7 data:1/7 abort:2/7", "0"},
		{"first offset within a batch", "7@0", "commit:0/9 abort:1/7", ""},
		{"a commit ends nothing", "7@0", "data:0/7 commit:1/7 data:2/7 abort:3/7", ""},
		{"the abort of another producer", "7@0", "data:0/7 abort:1/8 data:2/7 abort:3/7", ""},
		{"no producer", "-1@0", "plain:0/-1 data:1/-1", "0 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []AbortedTransaction
			for _, s := range strings.Fields(c.list) {
				var a AbortedTransaction
				_, err := fmt.Sscanf(s, "%d@%d", &a.ProducerID, &a.FirstOffset)
				require.NoError(t, err)
				list = append(list, a)
			}
			a := Aborted{}
			a.Reset([]AbortedTransaction{{7, 0}, {8, 0}, {9, 1 << 40}}) // the response before leaves nothing
			_, err := a.Drop(txnBatch(t, "data", 0, 7))
			require.NoError(t, err)
			a.Reset(list)
			var left []string
			for _, s := range strings.Fields(c.batches) {
				kind, at, _ := strings.Cut(s, ":")
				var offset, producer int64
				_, err := fmt.Sscanf(at, "%d/%d", &offset, &producer)
				require.NoError(t, err)
				drop, err := a.Drop(txnBatch(t, kind, offset, producer))
				require.NoError(t, err)
				if !drop {
					left = append(left, fmt.Sprint(offset))
				}
			}
			require.Equal(t, c.left, strings.Join(left, " "))
		})
	}
}

// TestAbortedCaptured: the batches that are left of the captured log are those that an independent
// reader got.
func TestAbortedCaptured(t *testing.T) {
	c, records := readCapture(t, "v2-transactions")
	var a Aborted
	a.Reset(c.abortedList(t))
	var left []byte
	markers, aborted := 0, 0
	w := Walk(records)
	for w.Next() {
		b := w.Batch()
		drop, err := a.Drop(b)
		require.NoError(t, err)
		switch {
		case !drop:
			left = append(left, b...)
		case b.Control():
			markers++
		default:
			aborted++
		}
	}
	require.NoError(t, w.Err())
	require.Equal(t, c.Records, readAsClient(t, left, 0))
	require.Equal(t, []int{33, 9}, []int{markers, aborted})
}

func TestDropVerifiesWhatItDrops(t *testing.T) {
	damaged := func(b Header, at int) Header { b[at] ^= 1; return b }
	var a Aborted
	a.Reset([]AbortedTransaction{{7, 0}})
	_, err := a.Drop(damaged(txnBatch(t, "data", 0, 7), atCount+3))
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = a.Drop(damaged(txnBatch(t, "commit", 1, 9), HeaderSize+9))
	require.ErrorIs(t, err, ErrCorrupt)
	drop, err := a.Drop(damaged(txnBatch(t, "plain", 2, 9), HeaderSize+3))
	require.NoError(t, err)
	require.False(t, drop, "what is appended is verified by the destination")

	control := func(attributes int16, count int32, records []byte) Header {
		b := Header(newBatch(3, attributes|bitControl|bitTransactional, count, records))
		binary.BigEndian.PutUint64(b[atProducerID:], 7)
		binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 0)
		fixCRC(b)
		return b
	}
	for _, c := range []struct {
		name string
		b    Header
		want error
	}{
		{"compressed", control(1, 1, makeRecordBytes([]byte{0, 0, 0, 0}, nil)), ErrUnsupported},
		{"no record", control(0, 1, nil), ErrMalformed},
		{"no key", control(0, 1, makeRecordBytes(nil, nil)), ErrMalformed},
		{"a key of three bytes", control(0, 1, makeRecordBytes([]byte{0, 0, 0}, nil)), ErrMalformed},
		{"version -1", control(0, 1, makeRecordBytes([]byte{0xff, 0xff, 0, 0}, nil)), ErrMalformed},
	} {
		_, err := a.Drop(c.b)
		require.ErrorIs(t, err, c.want, c.name)
		require.ErrorContains(t, err, "offset 3", c.name)
	}
	drop, err = a.Drop(control(0, 0, nil)) // compaction has taken the marker out
	require.NoError(t, err)
	require.True(t, drop)
	drop, err = a.Drop(txnBatch(t, "data", 4, 7))
	require.NoError(t, err)
	require.True(t, drop, "no marker, no end")
}

func TestAbortedDoesNotAllocate(t *testing.T) {
	list := []AbortedTransaction{{8, 1}, {7, 0}}
	batches := []Header{
		txnBatch(t, "data", 0, 7), txnBatch(t, "data", 1, 8), txnBatch(t, "plain", 2, -1), txnBatch(t, "abort", 3, 7), txnBatch(t, "abort", 4, 8),
	}
	var a Aborted
	require.Zero(t, testing.AllocsPerRun(100, func() {
		a.Reset(list)
		for i, b := range batches {
			if drop, err := a.Drop(b); err != nil || drop != (i != 2) {
				panic("wrong")
			}
		}
	}))
}
