package batch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mirrored is a log as klink appends it: whole batches, each with its stamp, and what they were
// made of.
type mirrored struct {
	batches []Header
	holes   int // batches that were dropped
	next    int64
}

// mirrorLog mirrors the records of a read_committed fetch at the offset from, whatever their kind,
// like a replicator.
func mirrorLog(records []byte, aborted []AbortedTransaction, from int64) (m mirrored, err error) {
	var r Recoder
	var a Aborted
	a.Reset(aborted)
	m.next = from
	emit := func(b Header) error {
		base, epoch := b.BaseOffset(), b.LeaderEpoch()
		if base < m.next {
			return fmt.Errorf("a run at %d, below %d", base, m.next)
		}
		m.next = b.NextOffset()
		b = append(Header(nil), b...)
		m.batches = append(m.batches, b)
		return Stamp(b, base, epoch)
	}
	w := Walk(append([]byte(nil), records...))
	for {
		for w.Next() {
			b := w.Batch()
			kind, err := Classify(b)
			if err != nil {
				return m, err
			}
			drop, err := a.Drop(b)
			switch {
			case err != nil:
				return m, err
			case drop:
				m.holes++
				m.next = max(m.next, b.NextOffset())
				continue
			case kind == Data:
				err = emit(b)
			default:
				end := b.NextOffset()
				err = r.Runs(b, m.next, emit)
				m.next = max(m.next, end)
			}
			if err != nil {
				return m, err
			}
		}
		if !errors.Is(w.Err(), ErrOldFormat) {
			return m, w.Err()
		}
		n, next, err := r.Convert(w.Rest(), m.next, emit)
		if err != nil || n == 0 {
			return m, err
		}
		m.next = max(m.next, next)
		w = Walk(w.Rest()[n:])
	}
}

// read is what a client of klink gets: the destination's broker has taken the batches, and the
// proxy restores them.
func (m mirrored) read(t *testing.T, from int64) []capturedRecord {
	t.Helper()
	var log []byte
	physical := int64(0)
	for _, b := range m.batches {
		kind, err := Classify(b)
		require.NoError(t, err)
		require.Equal(t, Data, kind, "a broker takes nothing else")
		require.False(t, b.Transactional() || b.DeleteHorizon())
		b = append(Header(nil), b...)
		appendAt(t, b, physical)
		physical = b.NextOffset()
		logical, _, _, ok := ReadStamp(b)
		require.True(t, ok)
		require.NoError(t, Restore(b[:HeaderSize], logical))
		log = append(log, b...)
	}
	return readAsClient(t, log, from)
}

func (c capture) abortedList(t *testing.T) (list []AbortedTransaction) {
	for _, s := range strings.Fields(c.Aborted) {
		var a AbortedTransaction
		_, err := fmt.Sscanf(s, "%d@%d", &a.ProducerID, &a.FirstOffset)
		require.NoError(t, err)
		list = append(list, a)
	}
	return list
}

// TestMirrorOfEveryCapturedLog: what a client reads from the mirror is what an independent reader
// read from the source. The batches are in testdata/mirrored.golden (KLINK_REWRITE=1 writes it).
func TestMirrorOfEveryCapturedLog(t *testing.T) {
	var out strings.Builder
	for _, name := range captures(t, "*") {
		t.Run(name, func(t *testing.T) {
			c, records := readCapture(t, name)
			if strings.HasPrefix(name, "v0-") {
				for i := range c.Records { // v2 has no "no timestamp"
					require.Zero(t, c.Records[i].TimestampType)
					c.Records[i].TimestampType, c.Records[i].Timestamp = 1, -1
				}
			}
			m, err := mirrorLog(records, c.abortedList(t), 0)
			require.NoError(t, err)
			require.Equal(t, c.HighWatermark, m.next, "where the source's log ends")
			require.Equal(t, c.Records, m.read(t, c.LogStart))
			fmt.Fprintf(&out, "%s: %d batches dropped\n", name, m.holes)
			for _, b := range m.batches {
				logical, flags, epoch, _ := ReadStamp(b)
				fmt.Fprintf(&out, "  %d +%d, attributes %#02x, timestamps %d to %d, flags %d, epoch %d\n", logical,
					b.LastOffsetDelta(), b.Attributes(), b.BaseTimestamp(), b.MaxTimestamp(), flags, epoch)
			}
		})
	}
	golden(t, "mirrored.golden", out.String())
}

// TestMirrorResumesAnywhere: a replicator that was stopped after any of its appends fetches the
// next offset, gets the whole batch or message around it, and appends exactly what is missing.
func TestMirrorResumesAnywhere(t *testing.T) {
	for _, name := range captures(t, "*") {
		t.Run(name, func(t *testing.T) {
			c, records := readCapture(t, name)
			whole, err := mirrorLog(records, c.abortedList(t), 0)
			require.NoError(t, err)
			for i := range whole.batches {
				logical, _, _, _ := ReadStamp(whole.batches[i])
				from := logical + int64(whole.batches[i].LastOffsetDelta()) + 1
				rest, fetched := sourceFetch(t, c, records, from)
				m, err := mirrorLog(rest, fetched, from)
				require.NoError(t, err)
				require.Equal(t, len(whole.batches)-i-1, len(m.batches), "after %d appends", i+1)
				for j, b := range m.batches {
					require.Equal(t, whole.batches[i+1+j], b, "batch %d after %d appends", j, i+1)
				}
				require.Equal(t, c.HighWatermark, m.next)
			}
		})
	}
}

// sourceFetch answers a fetch as a broker does: from the batch that holds the offset, with the
// aborted transactions that end at or behind it.
func sourceFetch(t *testing.T, c capture, records []byte, from int64) ([]byte, []AbortedTransaction) {
	var list []AbortedTransaction
	for _, a := range c.abortedList(t) {
		if endOf(a, records) >= from {
			list = append(list, a)
		}
	}
	for len(records) > 0 {
		end := Header(records).BaseOffset() + 1 // of a message
		size, old, err := peekMessage(records)
		require.NoError(t, err)
		if !old {
			size, err = Peek(records)
			require.NoError(t, err)
			end = Header(records).NextOffset()
		}
		if end > from {
			break
		}
		records = records[size:]
	}
	return records, list
}

// endOf is the offset of the marker that ends the transaction.
func endOf(a AbortedTransaction, records []byte) int64 {
	w := Walk(records)
	for w.Next() {
		if b := w.Batch(); b.Control() && b.ProducerID() == a.ProducerID && b.BaseOffset() > a.FirstOffset {
			return b.BaseOffset()
		}
	}
	panic("an aborted transaction without a marker")
}
