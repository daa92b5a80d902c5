package mirror

import (
	"slices"
	"testing"

	"klink/protocol/batch"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rec is a record of a test.
type rec struct{ key, value string }

// batchOf makes a batch as a producer would.
func batchOf(timestamp int64, records ...rec) []byte {
	var body []byte
	for i, r := range records {
		var key []byte
		if r.key != "" {
			key = []byte(r.key)
		}
		body = appendRecord(body, int64(i), key, []byte(r.value))
	}
	return appendBatchOf(nil, len(records), timestamp, 0, body)
}

// contentOf is what a reader gets of batches, in one partition.
func contentOf(t *testing.T, batches ...[]byte) *content {
	t.Helper()
	d := newDigester()
	require.NoError(t, d.response(&kmsg.FetchResponseTopicPartition{RecordBatches: slices.Concat(batches...)}))
	return &content{parts: []digest{d.digest()}, records: d.records, bytes: d.bytes}
}

// TestVerificationCatches: each way in which a mirror can be wrong is seen, and each in which it
// may differ is not.
func TestVerificationCatches(t *testing.T) {
	a, b, c, d := rec{"k1", "one"}, rec{"", "two"}, rec{"k3", "three"}, rec{"k4", ""}
	source := contentOf(t, batchOf(5, a, b), batchOf(5, c, d))
	require.EqualValues(t, 4, source.records)
	for name, mirrored := range map[string]*content{
		"the same":        contentOf(t, batchOf(5, a, b), batchOf(5, c, d)),
		"other batches":   contentOf(t, batchOf(5, a), batchOf(5, b, c, d)),
		"one large batch": contentOf(t, batchOf(5, a, b, c, d)),
	} {
		require.NoError(t, compare(source, mirrored), name)
	}
	for want, mirrored := range map[string]*content{
		"1 of the source's 4 records are missing":       contentOf(t, batchOf(5, a, b), batchOf(5, c)),
		"2 of the source's 4 records are missing":       contentOf(t, batchOf(5, c, d)),
		"4 of the source's 4 records are missing":       contentOf(t),
		"1 records more than the source's 4":            contentOf(t, batchOf(5, a, b), batchOf(5, c, d, d)),
		"2 records more than the source's 4":            contentOf(t, batchOf(5, a, b), batchOf(5, a, b), batchOf(5, c, d)),
		"the destination has 0 partitions":              {},
		"partition 0: its 4 records differ from those ": contentOf(t, batchOf(5, a, b), batchOf(5, c, rec{"k4", "x"})),
	} {
		require.ErrorContains(t, compare(source, mirrored), want)
	}
	for name, mirrored := range map[string]*content{
		"one missing and another doubled": contentOf(t, batchOf(5, a, b), batchOf(5, d, d)),
		"two in the wrong order":          contentOf(t, batchOf(5, b, a), batchOf(5, c, d)),
		"another key":                     contentOf(t, batchOf(5, rec{"k2", "one"}, b), batchOf(5, c, d)),
		"no key":                          contentOf(t, batchOf(5, rec{"", "one"}, b), batchOf(5, c, d)),
		"a byte from key to value":        contentOf(t, batchOf(5, rec{"k", "1one"}, b), batchOf(5, c, d)),
		"another timestamp":               contentOf(t, batchOf(6, a, b), batchOf(5, c, d)),
	} {
		require.ErrorContains(t, compare(source, mirrored), "differ from those of the source", name)
	}
}

// TestDigestOfTheFirst: an incomplete mirror is compared with as many records of the source, even
// if a batch goes on behind them.
func TestDigestOfTheFirst(t *testing.T) {
	a, b, c, d := rec{"k1", "one"}, rec{"k2", "two"}, rec{"", "three"}, rec{"k4", ""}
	first := newDigester()
	first.most = 3
	require.NoError(t, first.response(&kmsg.FetchResponseTopicPartition{RecordBatches: slices.Concat(batchOf(5, a, b), batchOf(5, c, d), batchOf(5, d))}))
	require.Equal(t, contentOf(t, batchOf(5, a), batchOf(5, b, c)).parts[0], first.digest())
}

// TestDigestRefusesDamage: a flipped bit anywhere behind the checksum is an error, not another
// digest.
func TestDigestRefusesDamage(t *testing.T) {
	for at := 17; at < batch.HeaderSize+8; at++ {
		b := batchOf(5, rec{"k", "value"})
		if b[at] ^= 1; at == 22 { // the codec
			b[at] ^= 1
			continue
		}
		require.Error(t, newDigester().response(&kmsg.FetchResponseTopicPartition{RecordBatches: b}), at)
	}
}

// TestDigestLeavesOutAborted: records that a read_committed consumer does not get do not count.
func TestDigestLeavesOutAborted(t *testing.T) {
	transactional := func(base int64, b []byte) []byte {
		h := batch.Header(b)
		h.SetBaseOffset(base)
		body := append([]byte(nil), b[batch.HeaderSize:]...)
		b = appendBatchOf(nil, int(h.Count()), h.BaseTimestamp(), 1<<4, body)
		batch.Header(b).SetBaseOffset(base)
		b[50] = 9 // producer id: the last byte of eight at 43
		for i := 43; i < 50; i++ {
			b[i] = 0
		}
		return withCRC(b)
	}
	d := newDigester()
	require.NoError(t, d.response(&kmsg.FetchResponseTopicPartition{
		RecordBatches:       slices.Concat(transactional(0, batchOf(5, rec{"", "aborted"})), batchOf(5, rec{"", "kept"})),
		AbortedTransactions: []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 9, FirstOffset: 0}},
	}))
	require.Equal(t, contentOf(t, batchOf(5, rec{"", "kept"})).parts[0], d.digest())
}
