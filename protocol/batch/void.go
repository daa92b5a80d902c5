package batch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Voider turns a batch, while it passes, into a batch of the same length that clients skip. So
// klink hides a foreign or doubled batch within a mirror without changing the length of a response.
//
// A void batch is a control batch of one record: a commit marker of no producer, whose value is
// zero bytes that make up the length. Clients skip control batches by themselves. A data batch that
// merely ends below a reader's position would not do, because librdkafka compares with the position
// that the request had. The caller sets the offset of the void batch: the one before the next
// offset to be read, so that no client goes on in the wrong place; -1 if the next one is 0.
//
// Below markerMin bytes there is no room for the marker. Such a batch claims no records, as
// compaction leaves some. Readers that ignore the count and read to the end (librdkafka) find a
// control record of an unknown version, and skip it.
//
// Tried with librdkafka 2.11.1, Java 4.3.1 and franz-go, both isolation levels, checksums on: each
// size from 61 to 299, and around 8,192 and 1 MiB, before, between and behind records, at offset -1
// too. All records came, once. (Behind one of 62 to 67 bytes, which no log has, librdkafka gives
// the rest of the response up and fetches again.)
//
// Usage: NewVoider when the header is there, then Fill for each piece that follows, while it
// passes. The value is the whole state, and may be copied.
type Voider struct {
	head [voidHeadMax]byte // the beginning of the record, behind which only zeros follow
	size int               // of head
	at   int               // the number of bytes behind the header that have passed
}

// voidHeadMax: three lengths of up to five bytes, three bytes of attributes and deltas, the key.
const voidHeadMax = 5 + 3 + 1 + 4 + 5

// markerMin is the size in bytes of the smallest void batch with a marker.
const markerMin = HeaderSize + 11

// NewVoider rewrites h, the first HeaderSize bytes of the batch to hide, to the header of a void
// batch at baseOffset. Size and leader epoch stay. The batch may be of any message format, and may
// be cut off behind its header. ok is false, and h unchanged, if the length of the batch is
// impossible or below HeaderSize, which only message formats v0 and v1 have. The caller then has to
// hide it in another way. NewVoider panics on fewer than HeaderSize bytes.
func NewVoider(h Header, baseOffset int64) (v Voider, ok bool) {
	length := int64(h.int32(atLength)) + sizePrefix
	if length < HeaderSize || length > math.MaxInt32 {
		return v, false
	}
	count := v.begin(int(length) - HeaderSize)
	zeros := int(length) - HeaderSize - v.size
	h.SetBaseOffset(baseOffset)
	if h.Magic() < 2 { // where v2 has the leader epoch, older formats have a checksum
		h.SetLeaderEpoch(noLeaderEpoch)
	}
	h[atMagic] = 2
	h.setAttributes(bitControl)
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], 0)
	for i := atBaseTimestamp; i < atProducerID; i++ {
		h[i] = 0xff // no timestamps
	}
	h.setNoProducer()
	binary.BigEndian.PutUint32(h[atCount:], count)

	crc := ^crc32.Checksum(h[atAttributes:HeaderSize], castagnoli)
	for _, c := range v.head[:v.size] { // crc32.Update would move v to the heap
		crc = crc>>8 ^ castagnoli[byte(crc)^c]
	}
	h.setCRC(^shiftCRC(crc, uint32(zeros)))
	return v, true
}

// begin makes the head of the record that fills n bytes; only zeros follow the head. It returns the
// number of records that the header must claim.
//
// The record has two lengths. They do not count themselves, and they grow with what they count, so
// no record with shortest lengths has certain sizes. One such size is 65 bytes: 63 and a length of
// one byte are 64, 64 and two are 66. There begin writes the length with one byte more than it
// needs, which every reader of a varint accepts.
func (v *Voider) begin(n int) (count uint32) {
	switch {
	case n < 7: // no record is so short; compaction leaves batches with n = 0
		return 0
	case n < markerMin-HeaderSize:
		v.size = copy(v.head[:], []byte{byte(n-1) << 1, 0, 0, 0, 2 << 1, 0x7f, 0xff}) // the key: version 32767
		return 0
	}
	lengthSize := 1
	for varintSize(int64(n-lengthSize)) > lengthSize {
		lengthSize++
	}
	body := n - lengthSize
	rest := body - 9 // attributes, two deltas, the key with its length, and how many headers there are
	valueSize := 1
	for varintSize(int64(rest-valueSize)) > valueSize {
		valueSize++
	}
	value := rest - valueSize

	b := appendWideVarint(v.head[:0], body, lengthSize)
	b = append(b, 0, 0, 0)          // attributes, timestamp delta, offset delta
	b = append(b, 4<<1, 0, 0, 0, 1) // the key: version 0, type 1 = commit
	b = appendWideVarint(b, value, valueSize)
	v.size = len(b) // only zeros follow: the value, and no headers
	return 1
}

// appendWideVarint appends v as a varint of size bytes, which may be more than it needs.
func appendWideVarint(dst []byte, v, size int) []byte {
	u := uint64(v) << 1
	for ; size > 1; size-- {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// Fill overwrites p, the next bytes of the batch behind its header. The caller must not pass bytes
// beyond the end of the batch.
func (v *Voider) Fill(p []byte) {
	n := 0
	if v.at < v.size {
		n = copy(p, v.head[v.at:v.size])
	}
	clear(p[n:])
	v.at += len(p)
}

// Void makes b, one whole batch, void in place: NewVoider and Fill in one. It returns false, and
// leaves b unchanged, if b is shorter than a header, or not as long as its header says.
func Void(b []byte, baseOffset int64) bool {
	if len(b) < HeaderSize || Header(b).Size() != len(b) {
		return false
	}
	v, ok := NewVoider(b, baseOffset)
	if ok {
		v.Fill(b[HeaderSize:])
	}
	return ok
}
