package batch

import (
	"encoding/binary"
	"hash/crc32"
)

// MaxRecodedSize is the largest MaxSize of a Recoder, and its default, in bytes.
const MaxRecodedSize = MaxInflated

// Recoder makes v2 batches that a stock broker takes of what it does not take: batches thinned by
// compaction (Runs), and message formats v0 and v1 (Convert). Records are decompressed and
// compressed again; everything else in klink leaves them alone.
//
// What comes out are dense runs: each batch holds consecutive offsets, from its own base offset on.
// Invariants:
//
//  1. Keys, values, headers, timestamps, the timestamp type and the codec of every record are those
//     of the source, and so is every offset.
//  2. The boundaries are a function of the source's batch, or message, alone: not of the fetch it
//     came with, of a limit or of a position. So a doubled append doubles whole batches.
//  3. Nothing is emitted of a batch or message that is damaged anywhere.
//  4. A run's records, uncompressed, are no larger than they were in the source's v2 batch.
//
// The zero value is ready. A Recoder keeps its buffers for the next batch, unless they became
// large; it is not for use by several goroutines at once.
type Recoder struct {
	// MaxSize bounds the decompressed size of a batch in bytes, and so the memory that a hostile
	// one costs (with zstd it can cost 128 MiB in passing, whatever the limit). 0, or more than
	// MaxRecodedSize, is MaxRecodedSize. Not to be changed after the first use.
	MaxSize int
	// Account is told of the memory in bytes that a large batch takes: more before it is taken, and
	// all of it, as a negative number, before Runs or Convert returns. It may wait. Batches that
	// fit into what a Recoder keeps are not told of. Optional; not to be changed after the first
	// use.
	Account func(delta int64)

	codecs codecs
	raw    []byte // the source's records, decompressed
	plain  []byte // those of one run
	out    []byte // the run as a batch
}

// kept is how large a buffer may be to be kept for the next batch, in bytes.
const kept = 4 << 20

func (r *Recoder) limit() int {
	if r.MaxSize <= 0 || r.MaxSize > MaxRecodedSize {
		return MaxRecodedSize
	}
	return r.MaxSize
}

// tidy gives large buffers back.
func (r *Recoder) tidy() {
	for _, b := range []*[]byte{&r.raw, &r.plain, &r.out} {
		if cap(*b) > kept {
			*b = nil
		}
	}
	r.codecs.shrunk()
}

// run is a dense run in the making. The records are in Recoder.plain.
type run struct {
	base          int64
	count         int32
	maxTimestamp  int64
	baseTimestamp int64
	leaderEpoch   int32
	attributes    int16
}

// next is the offset after the run.
func (u *run) next() int64 { return u.base + int64(u.count) }

// saw counts a record with its timestamp.
func (u *run) saw(timestamp int64) {
	if u.count == 0 || timestamp > u.maxTimestamp {
		u.maxTimestamp = timestamp
	}
	u.count++
}

// finish makes the batch of a run whose records are complete. The batch belongs to no producer, and
// is valid until the next call. sourceSize is the length of what the run was in: where the
// compressor does worse than the one of the source, it is told to try harder, so that a batch near
// max.message.bytes does not become too large for the destination.
func (r *Recoder) finish(u run, sourceSize int) (Header, error) {
	var header [HeaderSize]byte
	out, err := r.codecs.compress(append(r.out[:0], header[:]...), r.plain, int8(u.attributes&codecMask), sourceSize)
	if err != nil {
		return nil, err
	}
	r.out = out
	h := Header(out)
	h.SetBaseOffset(u.base)
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(out)-sizePrefix))
	h.SetLeaderEpoch(u.leaderEpoch)
	h[atMagic] = 2
	h.setAttributes(u.attributes)
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(u.count-1))
	binary.BigEndian.PutUint64(h[atBaseTimestamp:], uint64(u.baseTimestamp))
	binary.BigEndian.PutUint64(h[atMaxTimestamp:], uint64(u.maxTimestamp))
	h.setNoProducer()
	binary.BigEndian.PutUint32(h[atCount:], uint32(u.count))
	h.setCRC(crc32.Checksum(h[atAttributes:], castagnoli))
	return h, nil
}

// setNoProducer writes producer id, epoch and base sequence -1.
func (h Header) setNoProducer() {
	for i := atProducerID; i < atCount; i++ {
		h[i] = 0xff
	}
}
