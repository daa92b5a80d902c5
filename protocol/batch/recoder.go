package batch

import (
	"encoding/binary"
	"hash/crc32"
)

// MaxRecodedSize is the largest MaxSize of a Recoder, and its default, in bytes.
const MaxRecodedSize = MaxInflated

// Recoder turns batches that a stock broker does not accept into v2 batches that it does: batches
// thinned by compaction (Runs), and message formats v0 and v1 (Convert). It decompresses the
// records and compresses them again; the rest of klink does not touch records.
//
// The results are dense runs: each batch holds consecutive offsets, from its own base offset on.
//
//  1. Keys, values, headers, timestamps, the timestamp type and the codec of every record are those
//     of the source, and so is every offset.
//  2. The boundaries depend only on the source's batch or message, not on the fetch it came with,
//     on a limit or on a position. So a doubled append doubles whole batches.
//  3. If a batch or message is damaged anywhere, nothing of it is emitted.
//  4. A run's records, uncompressed, are no larger than they were in the source's v2 batch.
//
// The zero value is ready for use. A Recoder keeps its buffers for the next batch, unless they
// became large. It is not for use by several goroutines at once.
type Recoder struct {
	// MaxSize bounds the decompressed size of a batch in bytes, and so the memory that a hostile
	// batch costs. (With zstd it can cost 128 MiB for a moment, whatever the limit.) 0, or more
	// than MaxRecodedSize, means MaxRecodedSize. It must not change after the first use.
	MaxSize int
	// Account is called with the bytes of memory that a large batch takes: with more before they
	// are allocated, and with all of them, as a negative number, before Runs or Convert returns. It
	// may block. It is not called for batches that fit into the buffers that a Recoder keeps. It
	// may be nil, and must not change after the first use.
	Account func(delta int64)

	codecs codecs
	raw    []byte // the source's records, decompressed
	plain  []byte // those of one run
	out    []byte // the run as a batch
}

// kept is the largest size in bytes of a buffer that a Recoder keeps for the next batch.
const kept = 4 << 20

func (r *Recoder) limit() int {
	if r.MaxSize <= 0 || r.MaxSize > MaxRecodedSize {
		return MaxRecodedSize
	}
	return r.MaxSize
}

// tidy releases large buffers.
func (r *Recoder) tidy() {
	for _, b := range []*[]byte{&r.raw, &r.plain, &r.out} {
		if cap(*b) > kept {
			*b = nil
		}
	}
	r.codecs.shrunk()
}

// run is a dense run that is being built. Its records are in Recoder.plain.
type run struct {
	base          int64
	count         int32
	maxTimestamp  int64
	baseTimestamp int64
	leaderEpoch   int32
	attributes    int16
}

// next returns the offset after the run.
func (u *run) next() int64 { return u.base + int64(u.count) }

// saw counts a record with its timestamp.
func (u *run) saw(timestamp int64) {
	if u.count == 0 || timestamp > u.maxTimestamp {
		u.maxTimestamp = timestamp
	}
	u.count++
}

// finish makes the batch of a run whose records are complete. The batch belongs to no producer, and
// is valid until the next call. sourceSize is the length of the batch or message that the run came
// from. If the compressor does worse than that of the source, finish makes it try harder, so that a
// batch near max.message.bytes does not become too large for the destination.
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
