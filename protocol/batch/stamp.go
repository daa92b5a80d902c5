package batch

import (
	"encoding/binary"
	"fmt"
)

// Stamp makes b, one whole batch as the source gave it, into what is produced at the destination,
// in place: the header then says that the batch stood at logicalBase, and no broker takes it for a
// producer's.
//
//	baseOffset            0, the broker assigns it
//	partitionLeaderEpoch  -1, the broker assigns it
//	attributes            transactional and delete-horizon bits cleared, codec and timestamp type kept
//	baseTimestamp         the maximal timestamp, the time of the append, if the timestamp type was LogAppendTime: see below
//	producerId            -2 - logicalBase
//	producerEpoch         bit 0 = the timestamp type was LogAppendTime, bit 1 = FlagFiller, bit 2 = FlagFollows,
//	                      bits 3-14 = bits 0-11 of the place
//	baseSequence          bits 0-18 = leaderEpoch, that of the source's leader; all ones if it is unknown (< 0) or too
//	                      large; bits 19-30 = bits 12-23 of the place
//	crc                   corrected by the difference, so that damage to the records is still found
//
// The place is the low 24 bits of the physical base offset at which the append has to land: see
// SetPlace and Chain. Stamp makes it 0. Epoch and sequence are >= 0 because log compaction fails
// on a batch otherwise.
//
// With LogAppendTime all records of a batch have the time of the append, and clients do not look at
// the records' own. A destination with CreateTime does, when it looks for a record by timestamp:
// the first record of a batch has the base timestamp there. Were that left at the time of the
// producer, the batch would be passed over, and a seek would come too late.
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
	if leaderEpoch < 0 || leaderEpoch > unknownEpoch {
		leaderEpoch = unknownEpoch
	}
	h.setStamp(logicalBase, flags, leaderEpoch, 0)
}

// How a stamp is laid out: see Stamp. The place has 24 bits, 12 of them in the epoch, and 12 in the
// sequence.
const (
	flagsMask    int16 = 1<<placeShift - 1
	placeShift         = 3
	placeLowBits       = 12
	placeMask          = 1<<24 - 1
	epochBits          = 19
	unknownEpoch int32 = 1<<epochBits - 1
)

// setStamp writes the stamp, where the checksum covers it. leaderEpoch is in its range.
func (h Header) setStamp(logicalBase int64, flags int16, leaderEpoch int32, physical int64) {
	place := uint32(physical & placeMask)
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(firstStampedID-logicalBase))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], uint16(flags)|uint16(place&(1<<placeLowBits-1))<<placeShift)
	binary.BigEndian.PutUint32(h[atBaseSequence:], uint32(leaderEpoch)|place>>placeLowBits<<epochBits)
}

// SetPlace says at which physical base offset b, a batch that Stamp or Filler made, has to land. It
// corrects the checksum by the difference, does not look at the records, and may be called again,
// as the end of the log may have moved before the batch is sent.
func SetPlace(b []byte, physical int64) { setPlace(b, physical, 0) }

// SetPlaceAfter is SetPlace for a batch that is sent before the append in front of it is confirmed:
// it gets FlagFollows, and counts only where that one stands right before it. See Chain.
func SetPlaceAfter(b []byte, physical int64) { setPlace(b, physical, FlagFollows) }

func setPlace(b []byte, physical int64, follows int16) {
	patchCRC(Header(b), func(h Header) {
		flags := h.ProducerEpoch()&flagsMask&^FlagFollows | follows
		h.setStamp(firstStampedID-h.ProducerID(), flags, h.BaseSequence()&unknownEpoch, physical)
	})
}

// ReadStamp reads what Stamp wrote: the logical base offset, the flags, and the source's leader
// epoch (-1 = unknown). ok is false for a batch without a stamp, which somebody else than klink
// wrote, and for fewer than HeaderSize bytes. The header suffices. A stamp alone does not make the
// batch one of the mirror: see Counts.
func ReadStamp(b []byte) (logicalBase int64, flags int16, leaderEpoch int32, ok bool) {
	if len(b) < HeaderSize {
		return 0, 0, 0, false
	}
	h := Header(b)
	id := h.ProducerID()
	if h.Magic() != 2 || id > firstStampedID {
		return 0, 0, 0, false
	}
	epoch := h.BaseSequence() & unknownEpoch
	if epoch == unknownEpoch {
		epoch = -1
	}
	return firstStampedID - id, h.ProducerEpoch() & flagsMask, epoch, true
}

// Counts says whether b, a batch as it stands in the log of a mirror, is stamped, and stands at its
// place. One that is not is void, for whoever reads it: somebody else wrote it, or it is an append
// that was doubled, came late, or follows one that was refused. One that is counts, unless it has
// FlagFollows: then what stands before it decides, too, and Chain tells. Fillers count.
//
// A marker (a control batch, which the broker made) has no place in its stamp. It is written only
// where the offset is the same at the source and here, and counts if it stands there.
//
// A batch that is off by a multiple of 2^24 offsets would count: an owner never has as many on
// their way.
func Counts(b []byte) bool {
	logical, _, _, ok := ReadStamp(b)
	return ok && Header(b).inPlace(logical)
}

// inPlace says whether a stamped batch, at a logical base offset, stands at its place.
func (h Header) inPlace(logical int64) bool {
	if h.Control() {
		return h.BaseOffset() == logical
	}
	place := int64(h.ProducerEpoch()>>placeShift) | int64(h.BaseSequence()>>epochBits)<<placeLowBits
	return h.BaseOffset() >= 0 && place == h.BaseOffset()&placeMask
}

// FromAppendTime is true for a stamped batch whose records have the time of the append: the maximal
// timestamp.
func FromAppendTime(b []byte) bool {
	_, flags, _, ok := ReadStamp(b)
	return ok && !Header(b).Control() && flags&flagLogAppendTime != 0
}

// Restore makes b, a batch on its way from the destination to a client, into what the source would
// have given, in place: its base offset becomes logicalBase, and the timestamp type is
// LogAppendTime again if it was at the source. The rest of the stamp stays, as clients ignore
// producer ids below 0. It needs no more than the first HeaderSize bytes: the records may still be
// on their way. A batch without a stamp gets the base offset alone.
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
