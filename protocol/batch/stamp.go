package batch

import (
	"encoding/binary"
	"fmt"
)

// Stamp makes b, one whole batch as the source gave it, into what is produced at the destination, in place: the header then
// says that the batch stood at logicalBase, and no broker takes it for a producer's.
//
//	baseOffset            0, the broker assigns it
//	partitionLeaderEpoch  -1, the broker assigns it
//	attributes            transactional and delete-horizon bits cleared, codec and timestamp type kept
//	baseTimestamp         the maximal timestamp, the time of the append, if the timestamp type was LogAppendTime: see below
//	producerId            -2 - logicalBase
//	producerEpoch         flags: bit 0 = the timestamp type was LogAppendTime
//	baseSequence          leaderEpoch, that of the source's leader; 0 if it is unknown (< 0)
//	crc                   corrected by the difference, so that damage to the records is still found
//
// Epoch and sequence are >= 0 because log compaction fails on a batch otherwise.
//
// With LogAppendTime all records of a batch have the time of the append, and clients do not look at the records' own. A
// destination with CreateTime does, when it looks for a record by timestamp: the first record of a batch has the base
// timestamp there. Were that left at the time of the producer, the batch would be passed over, and a seek would come too late.
//
// The error wraps ErrMalformed and friends;
// b is then unchanged. Whether the batch may be mirrored at all is up to Check.
func Stamp(b []byte, logicalBase int64, leaderEpoch int32) error {
	if err := whole(b); err != nil {
		return err
	}
	h := Header(b)
	if logicalBase < 0 || logicalBase > maxLogicalBase {
		return fmt.Errorf("%w: logical base offset %d", ErrMalformed, logicalBase)
	}
	patchCRC(h, func(h Header) { writeStamp(h, logicalBase, leaderEpoch) })
	h.SetBaseOffset(0)
	h.SetLeaderEpoch(noLeaderEpoch)
	return nil
}

// writeStamp writes the checksummed fields of the stamp.
func writeStamp(h Header, logicalBase int64, leaderEpoch int32) {
	attributes, flags := h.Attributes(), int16(0)
	if attributes&bitLogAppendTime != 0 {
		flags |= flagLogAppendTime
		binary.BigEndian.PutUint64(h[atBaseTimestamp:], uint64(h.MaxTimestamp()))
	}
	h.setAttributes(attributes &^ (bitTransactional | bitDeleteHorizon))
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(firstStampedID-logicalBase))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], uint16(flags))
	binary.BigEndian.PutUint32(h[atBaseSequence:], uint32(max(leaderEpoch, 0)))
}

// ReadStamp reads what Stamp wrote: the logical base offset, the flags, and the source's leader epoch (0 may be unknown). ok
// is false for a batch without a stamp, which somebody else than klink wrote, and for fewer than HeaderSize bytes. The
// header suffices.
func ReadStamp(b []byte) (logicalBase int64, flags int16, leaderEpoch int32, ok bool) {
	if len(b) < HeaderSize {
		return 0, 0, 0, false
	}
	h := Header(b)
	id := h.ProducerID()
	if h.Magic() != 2 || id > firstStampedID {
		return 0, 0, 0, false
	}
	return firstStampedID - id, h.ProducerEpoch(), h.BaseSequence(), true
}

// FromAppendTime is true for a stamped batch whose records have the time of the append: the maximal timestamp.
func FromAppendTime(b []byte) bool {
	_, flags, _, ok := ReadStamp(b)
	return ok && !Header(b).Control() && flags&flagLogAppendTime != 0
}

// Restore makes b, a batch on its way from the destination to a client, into what the source would have given, in place: its
// base offset becomes logicalBase, and the timestamp type is LogAppendTime again if it was at the source. The rest of the
// stamp stays, as clients ignore producer ids below 0. It needs no more than the first HeaderSize bytes: the records may
// still be on their way. A batch without a stamp gets the base offset alone.
//
// The error wraps ErrMalformed and friends; b is then unchanged.
func Restore(b []byte, logicalBase int64) error {
	switch size, err := Peek(b); {
	case err != nil:
		return err
	case size == 0 || len(b) < HeaderSize:
		return fmt.Errorf("%w: %d bytes of a header", ErrMalformed, len(b))
	}
	h := Header(b)
	h.SetBaseOffset(logicalBase)
	if _, flags, _, ok := ReadStamp(b); ok && flags&flagLogAppendTime != 0 && !h.LogAppendTime() {
		patchCRC(h, func(h Header) { h.setAttributes(h.Attributes() | bitLogAppendTime) })
	}
	return nil
}
