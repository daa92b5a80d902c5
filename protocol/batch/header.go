// Package batch reads and rewrites record batches of Kafka's message format v2 in place: headers,
// checksums, and the stamp that says at which offset of the source a batch stood. None of that
// decodes a record, or allocates anything but errors.
//
// Batches that no broker accepts as they are have to be made anew: Recoder splits batches thinned
// by compaction into dense runs, and converts the message formats v0 and v1. Aborted finds the
// batches of aborted transactions, Filler makes batches that use up offsets, and Voider hides a
// batch from clients without changing its length.
//
// Nothing in this package panics because of the bytes of a batch, as long as a Header has at least
// HeaderSize bytes.
package batch

import "encoding/binary"

// HeaderSize is the length of a v2 batch header in bytes (KIP-98; Kafka's DefaultRecordBatch).
const HeaderSize = 61

// sizePrefix is the number of bytes that the batchLength field does not count: the base offset and
// the field itself.
const sizePrefix = 12

// Where the fields of a v2 header begin. The checksum covers everything from attributes on.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
)

// The bits of a batch's attributes (Kafka's DefaultRecordBatch).
const (
	codecMask         int16 = 0x07
	bitLogAppendTime  int16 = 1 << 3
	bitTransactional  int16 = 1 << 4
	bitControl        int16 = 1 << 5
	bitDeleteHorizon  int16 = 1 << 6 // KIP-534: the base timestamp holds the delete horizon
	knownAttributes   int16 = 0x7f
	lastKnownCodec          = 4 // zstd
	noLeaderEpoch     int32 = -1
	firstStampedID    int64 = -2
	flagLogAppendTime int16 = 1 << 0
)

// FlagFiller is the bit in the flags of a stamp (see ReadStamp) that marks the batches of Filler.
const FlagFiller int16 = 1 << 1

// FlagFollows is the bit in the flags of a stamp that marks a batch which was sent before the
// append in front of it was confirmed: see Chain.
const FlagFollows int16 = 1 << 2

// Header is a v2 batch, or at least its first HeaderSize bytes, read and written in place. It
// aliases the bytes it was made from. Its methods panic on fewer than HeaderSize bytes, which a
// Walker never yields.
type Header []byte

// BaseOffset is the offset of the batch's first record; the broker assigns it.
func (h Header) BaseOffset() int64 { return h.int64(atBaseOffset) }

// SetBaseOffset patches the base offset. The checksum does not cover it.
func (h Header) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(h[atBaseOffset:], uint64(offset))
}

// Size returns the length in bytes of the whole batch according to its header, which may be more
// than there is. For a malformed header it is negative or below HeaderSize.
func (h Header) Size() int { return int(h.int32(atLength)) + sizePrefix }

// LeaderEpoch is the epoch of the leader that appended the batch; -1 in a produce request.
func (h Header) LeaderEpoch() int32 { return h.int32(atLeaderEpoch) }

// SetLeaderEpoch patches the leader epoch. The checksum does not cover it.
func (h Header) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], uint32(epoch))
}

// Magic is the message format, 2 for the batches of this package.
func (h Header) Magic() int8 { return int8(h[atMagic]) }

// CRC is the checksum as it stands in the header: CRC-32C of all bytes from the attributes on.
func (h Header) CRC() uint32 { return binary.BigEndian.Uint32(h[atCRC:]) }

func (h Header) setCRC(crc uint32) { binary.BigEndian.PutUint32(h[atCRC:], crc) }

// Attributes are the raw attribute bits.
func (h Header) Attributes() int16 { return h.int16(atAttributes) }

func (h Header) setAttributes(a int16) {
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(a))
}

// Codec is the compression: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
func (h Header) Codec() int8 { return int8(h.Attributes() & codecMask) }

// LogAppendTime reports whether all records have the time of their append, MaxTimestamp.
func (h Header) LogAppendTime() bool { return h.Attributes()&bitLogAppendTime != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (h Header) Transactional() bool { return h.Attributes()&bitTransactional != 0 }

// Control reports whether the batch holds not records but a marker for clients and brokers, such as
// a commit.
func (h Header) Control() bool { return h.Attributes()&bitControl != 0 }

// DeleteHorizon reports whether compaction has replaced the base timestamp by its delete horizon
// (KIP-534).
func (h Header) DeleteHorizon() bool { return h.Attributes()&bitDeleteHorizon != 0 }

// LastOffsetDelta is the last offset of the batch minus its base offset. It stays even if
// compaction removes the record that had that offset.
func (h Header) LastOffsetDelta() int32 { return h.int32(atLastOffsetDelta) }

// NextOffset is the offset after the batch.
func (h Header) NextOffset() int64 { return h.BaseOffset() + int64(h.LastOffsetDelta()) + 1 }

// BaseTimestamp is the timestamp that record timestamps are relative to, in Unix milliseconds. See
// DeleteHorizon for an exception.
func (h Header) BaseTimestamp() int64 { return h.int64(atBaseTimestamp) }

// MaxTimestamp is the largest timestamp of the batch, in Unix milliseconds.
func (h Header) MaxTimestamp() int64 { return h.int64(atMaxTimestamp) }

// ProducerID is the id of an idempotent producer (>= 0), -1 for none, or a stamp (<= -2).
func (h Header) ProducerID() int64 { return h.int64(atProducerID) }

// ProducerEpoch is the producer's epoch, or the flags and a part of the place of a stamp.
func (h Header) ProducerEpoch() int16 { return h.int16(atProducerEpoch) }

// BaseSequence is the producer's sequence number of the first record, or the rest of a stamp: see
// Stamp.
func (h Header) BaseSequence() int32 { return h.int32(atBaseSequence) }

// Count is how many records the batch holds.
func (h Header) Count() int32 { return h.int32(atCount) }

func (h Header) int16(at int) int16 { return int16(binary.BigEndian.Uint16(h[at:])) }
func (h Header) int32(at int) int32 { return int32(binary.BigEndian.Uint32(h[at:])) }
func (h Header) int64(at int) int64 { return int64(binary.BigEndian.Uint64(h[at:])) }
