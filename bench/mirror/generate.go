package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kgo"
)

// generator makes the values of a partition's records. The same seed gives the same values. Each
// value begins with a stamp of 16 bytes that makes it unique; in steady phases the stamp holds the
// time at which the record is due.
type generator struct {
	size int
	json bool
	pool []byte
	rng  *rand.Rand
}

// stampSize is the smallest size of a value.
const stampSize = 16

func newGenerator(w *workload, seed uint64) *generator {
	g := &generator{size: max(w.recordSize, stampSize), json: w.json, rng: rand.New(rand.NewPCG(seed, 7))}
	if g.json {
		return g
	}
	// Values are slices of a pool that is much larger than a compression window, so that they
	// compress no better than fresh random bytes.
	g.pool = make([]byte, 1<<20+g.size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(g.pool)
	return g
}

// appendValue appends the next value, with two numbers for its stamp.
func (g *generator) appendValue(b []byte, a, c int64) []byte {
	if g.json {
		return g.appendJSON(b, a, c)
	}
	at := g.rng.IntN(len(g.pool) - g.size)
	b = binary.BigEndian.AppendUint64(b, uint64(a))
	b = binary.BigEndian.AppendUint64(b, uint64(c))
	return append(b, g.pool[at:at+g.size-stampSize]...)
}

var (
	actions = []string{"view", "click", "add_to_cart", "purchase", "search", "logout", "login", "refund"}
	words   = bytes.Fields([]byte(`order customer shipment parcel invoice payment warehouse delivery region market device browser session campaign
 discount coupon product category supplier stock reserved confirmed pending returned express standard insured tracked`))
)

// appendJSON appends an event like those that services write, of about the wanted size.
func (g *generator) appendJSON(b []byte, a, c int64) []byte {
	begin := len(b)
	r := g.rng
	b = fmt.Appendf(b, `{"stamp":"%016x%016x","event_id":"%016x-%08x","user_id":%d,"action":"%s","amount":%d.%02d,"currency":"EUR","ip":"10.%d.%d.%d","path":"/shop/%s/%s/%d","text":"`,
		a, c, r.Uint64(), r.Uint32(), r.IntN(5_000_000), actions[r.IntN(len(actions))], r.IntN(1000), r.IntN(100), r.IntN(256), r.IntN(256), r.IntN(256),
		words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(100_000))
	for len(b)-begin < g.size-2 {
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
	}
	return append(b, `"}`...)
}

// batcher makes record batches like a producer without idempotence.
type batcher struct {
	w       *workload
	gen     *generator
	clock   int64 // timestamp of the next record, Unix milliseconds
	seq     int64
	records []byte // reused
	value   []byte
	lz4     kgo.Compressor
	packed  bytes.Buffer
}

// firstTimestamp is the timestamp of every partition's first record. It grows by a millisecond with
// each batch.
const firstTimestamp = 1_790_000_000_000

func newBatcher(w *workload, partition int) (*batcher, error) {
	b := &batcher{w: w, gen: newGenerator(w, uint64(partition)), clock: firstTimestamp}
	if w.lz4 {
		var err error
		if b.lz4, err = kgo.DefaultCompressor(kgo.Lz4Compression()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

const codecLz4 = 3

// appendBatch appends the next batch, of n records. key returns the n-th record's key; nil = no
// keys.
func (b *batcher) appendBatch(dst []byte, n int, key func(n int) []byte) []byte {
	b.records = b.records[:0]
	for i := range n {
		b.value = b.gen.appendValue(b.value[:0], b.seq, b.clock)
		b.seq++
		var k []byte
		if key != nil {
			k = key(i)
		}
		b.records = appendRecord(b.records, int64(i), k, b.value)
	}
	records, attributes := b.records, uint16(0)
	if b.lz4 != nil {
		b.packed.Reset()
		records, _ = b.lz4.Compress(&b.packed, b.records)
		attributes = codecLz4
	}
	dst = appendBatchOf(dst, n, b.clock, attributes, records)
	b.clock++
	return dst
}

// appendRecord appends a record of format v2 with no headers and the batch's timestamp.
func appendRecord(b []byte, offsetDelta int64, key, value []byte) []byte {
	var head [2 * binary.MaxVarintLen64]byte
	h := append(head[:0], 0, 0) // attributes, timestamp delta
	h = binary.AppendVarint(h, offsetDelta)
	keySize := int64(-1)
	if key != nil {
		keySize = int64(len(key))
	}
	h = binary.AppendVarint(h, keySize)
	var mid [binary.MaxVarintLen64]byte
	m := binary.AppendVarint(mid[:0], int64(len(value)))
	b = binary.AppendVarint(b, int64(len(h)+len(key)+len(m)+len(value)+1))
	b = append(append(append(append(b, h...), key...), m...), value...)
	return append(b, 0) // headers
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBatchOf appends a batch of n records, all with the same timestamp.
func appendBatchOf(b []byte, n int, timestamp int64, attributes uint16, records []byte) []byte {
	begin := len(b)
	b = binary.BigEndian.AppendUint64(b, 0) // base offset
	b = binary.BigEndian.AppendUint32(b, uint32(49+len(records)))
	b = binary.BigEndian.AppendUint32(b, 0xffffffff) // leader epoch
	b = append(b, 2, 0, 0, 0, 0)                     // magic, checksum
	b = binary.BigEndian.AppendUint16(b, attributes)
	b = binary.BigEndian.AppendUint32(b, uint32(n-1))
	b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	b = binary.BigEndian.AppendUint64(b, 1<<64-1) // producer id
	b = binary.BigEndian.AppendUint16(b, 1<<16-1) // producer epoch
	b = binary.BigEndian.AppendUint32(b, 1<<32-1) // base sequence
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, records...)
	binary.BigEndian.PutUint32(b[begin+17:], crc32.Checksum(b[begin+21:], castagnoli))
	return b
}
