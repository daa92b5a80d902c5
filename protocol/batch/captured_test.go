package batch

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// capture is a log captured from a real broker, and what an independent reader (librdkafka) made of
// it; see testdata/README.md.
type capture struct {
	LogStart      int64 `json:"log_start"`
	HighWatermark int64 `json:"high_watermark"`
	Aborted       string
	Records       []capturedRecord
}

type capturedRecord struct {
	Offset        int64
	TimestampType int `json:"timestamp_type"` // 1 = create, 2 = append
	Timestamp     int64
	Key, Value    *string
	Headers       [][2]*string
}

func readCapture(t *testing.T, name string) (c capture, records []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &c))
	records, err = os.ReadFile(filepath.Join("testdata", name+".bin"))
	require.NoError(t, err)
	return c, records
}

func captures(t testing.TB, pattern string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern+".bin"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no captured logs match %s", pattern)
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".bin"))
	}
	return names
}

// aborts finds the batches that a read_committed reader skips (Kafka's rule: from the first offset
// of an aborted transaction to its producer's next marker).
type aborts map[int64][]int64 // producer id -> first offsets

func (c capture) aborts(t *testing.T) aborts {
	a := aborts{}
	for _, s := range strings.Fields(c.Aborted) {
		var id, first int64
		_, err := fmt.Sscanf(s, "%d@%d", &id, &first)
		require.NoError(t, err)
		a[id] = append(a[id], first)
	}
	return a
}

func (a aborts) skip(h Header) bool {
	if !h.Transactional() {
		return false
	}
	open := a[h.ProducerID()]
	aborted := len(open) > 0 && open[0] <= h.BaseOffset()
	if h.Control() {
		if aborted {
			a[h.ProducerID()] = open[1:]
		}
		return true
	}
	return aborted
}

// append plays the destination's broker: it gives b its physical offset and epoch, and clears the
// LogAppendTime bit as a CreateTime topic does, with the checksum to match.
func appendAt(t *testing.T, b Header, physical int64) {
	require.Zero(t, b.BaseOffset())
	require.Equal(t, int32(-1), b.LeaderEpoch())
	require.True(t, VerifyCRC(b))
	b.SetBaseOffset(physical)
	b.SetLeaderEpoch(9)
	if b.LogAppendTime() {
		b.setAttributes(b.Attributes() &^ bitLogAppendTime)
		fixCRC(b)
	}
}

func TestStampedAndRestoredLogReadsAsTheSource(t *testing.T) {
	for _, name := range captures(t, "v2-*") {
		t.Run(name, func(t *testing.T) {
			c, records := readCapture(t, name)
			a := c.aborts(t)
			var mirror []byte
			physical := int64(0)
			w := Walk(records)
			for w.Next() {
				b := w.Batch()
				require.True(t, VerifyCRC(b), "batch at %d as captured", b.BaseOffset())
				if a.skip(b) {
					continue
				}
				logical, source := b.BaseOffset(), append(Header(nil), b...)
				require.NoError(t, Stamp(b, logical, source.LeaderEpoch()))
				SetPlace(b, physical)
				appendAt(t, b, physical)
				require.True(t, Counts(b))
				physical = b.NextOffset()

				gotLogical, flags, epoch, ok := ReadStamp(b)
				require.True(t, ok)
				require.Equal(t, logical, gotLogical)
				require.Equal(t, source.LeaderEpoch(), epoch)
				require.Equal(t, source.LogAppendTime(), flags&flagLogAppendTime != 0)

				require.NoError(t, Restore(b[:HeaderSize], gotLogical))
				require.True(t, VerifyCRC(b), "batch at %d after restoring", logical)
				require.Equal(t, source.BaseOffset(), b.BaseOffset())
				require.Equal(t, source.Codec(), b.Codec())
				require.Equal(t, source.LogAppendTime(), b.LogAppendTime())
				require.False(t, b.Transactional() || b.Control() || b.DeleteHorizon())
				if source.LogAppendTime() {
					require.Equal(t, source.MaxTimestamp(), b.BaseTimestamp())
				} else {
					require.Equal(t, source.BaseTimestamp(), b.BaseTimestamp())
				}
				require.Equal(t, source.LastOffsetDelta(), b.LastOffsetDelta())
				require.Equal(t, source.MaxTimestamp(), b.MaxTimestamp())
				require.Equal(t, source[atCount:], b[atCount:], "records, and their number, are not touched")
				mirror = append(mirror, b...)
			}
			require.NoError(t, w.Err())
			have, _ := w.Cut()
			require.Zero(t, have)
			require.Equal(t, c.Records, readAsClient(t, mirror, c.LogStart))
		})
	}
}

// readAsClient decodes records as franz-go's consumer does, from an offset on, with all checksums
// verified.
func readAsClient(t *testing.T, records []byte, from int64) (out []capturedRecord) {
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = records
	opts := kgo.ProcessFetchPartitionOpts{Offset: from, Topic: "t", IsolationLevel: kgo.ReadCommitted()}
	fp, _ := kgo.ProcessFetchPartition(opts, &rp, kgo.DefaultDecompressor(), nil)
	require.NoError(t, fp.Err)
	encode := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := base64.StdEncoding.EncodeToString(b)
		return &s
	}
	for _, r := range fp.Records {
		c := capturedRecord{
			Offset: r.Offset, TimestampType: int(r.Attrs.TimestampType()) + 1, Timestamp: r.Timestamp.UnixMilli(),
			Key: encode(r.Key), Value: encode(r.Value), Headers: [][2]*string{},
		}
		for _, h := range r.Headers {
			c.Headers = append(c.Headers, [2]*string{&h.Key, encode(h.Value)})
		}
		out = append(out, c)
	}
	return out
}

// TestCheckCapturedLogs compares the verdict on every captured batch with testdata/verdicts.golden.
// If it fails, run with KLINK_REWRITE=1 and look at the difference.
func TestCheckCapturedLogs(t *testing.T) {
	var out strings.Builder
	for _, name := range captures(t, "*") {
		fmt.Fprintf(&out, "%s\n", name)
		_, records := readCapture(t, name)
		w := Walk(records)
		for w.Next() {
			b := w.Batch()
			verdict := "ok"
			if err := Check(b); err != nil {
				verdict = err.Error()
			}
			fmt.Fprintf(&out, "  %d +%d, %d records, %d bytes, attributes %#02x, epoch %d, producer %d/%d/%d: %s\n",
				b.BaseOffset(), b.LastOffsetDelta(), b.Count(), b.Size(), b.Attributes(), b.LeaderEpoch(),
				b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), verdict)
		}
		if w.Err() != nil {
			fmt.Fprintf(&out, "  %s\n", w.Err())
		}
	}
	golden(t, "verdicts.golden", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("KLINK_REWRITE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestWalkWhereverTheRecordsAreCut(t *testing.T) {
	var records []byte
	for i, n := range []int{0, 3, 100, 1} {
		records = append(records, newBatch(int64(i), 0, 1, make([]byte, n))...)
	}
	var ends []int
	w := Walk(records)
	for w.Next() {
		ends = append(ends, w.at)
	}
	require.NoError(t, w.Err())
	require.Len(t, ends, 4)
	require.Equal(t, len(records), ends[len(ends)-1])
	for cut := range len(records) {
		wantBatches, begin := 0, 0
		for wantBatches < len(ends) && ends[wantBatches] <= cut {
			begin = ends[wantBatches]
			wantBatches++
		}
		w := Walk(records[:cut])
		n := 0
		for w.Next() {
			n++
		}
		require.NoError(t, w.Err(), "cut at %d", cut)
		require.Equal(t, wantBatches, n, "cut at %d", cut)
		have, want := w.Cut()
		require.Equal(t, cut-begin, have, "cut at %d", cut)
		if have > atMagic {
			require.Equal(t, ends[wantBatches]-begin, want, "cut at %d", cut)
		} else {
			require.Zero(t, want, "cut at %d", cut)
		}
	}
}

func TestWalkRefuses(t *testing.T) {
	good := newBatch(5, 0, 1, []byte("records"))
	with := func(change func([]byte)) []byte {
		b := append([]byte(nil), good...)
		change(b)
		return append(append([]byte(nil), good...), b...)
	}
	length := func(n int32) []byte {
		return with(func(b []byte) { binary.BigEndian.PutUint32(b[atLength:], uint32(n)) })
	}
	magic := func(m int8) []byte { return with(func(b []byte) { b[atMagic] = byte(m) }) }
	for _, c := range []struct {
		name    string
		records []byte
		want    error
	}{
		{"magic 0", magic(0), ErrOldFormat},
		{"magic 1", magic(1), ErrOldFormat},
		{"magic 3", magic(3), ErrUnsupported},
		{"magic -1", magic(-1), ErrMalformed},
		{"length -1", length(-1), ErrMalformed},
		{"length 0", length(0), ErrMalformed},
		{"length of less than a header", length(HeaderSize - sizePrefix - 1), ErrMalformed},
		{"size beyond 31 bits", length(1<<31 - 1), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := Walk(c.records)
			require.True(t, w.Next(), "the good batch before it")
			require.False(t, w.Next())
			require.ErrorIs(t, w.Err(), c.want)
			require.False(t, w.Next(), "an error is the end")
			require.Nil(t, w.Batch())
		})
	}
	w := Walk(length(HeaderSize + 1000)) // looks like a batch that was cut off
	require.True(t, w.Next())
	require.False(t, w.Next())
	require.NoError(t, w.Err())
}
