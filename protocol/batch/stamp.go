package batch

import (
	"encoding/binary"
	"fmt"
)

// Stamp stamps b, one whole batch from the source, in place, so that it can be produced at the
// destination. The header then says that the batch stood at logicalBase, and no broker takes the
// batch for that of a producer.
//
//	baseOffset            0, the broker assigns it
//	partitionLeaderEpoch  -1, the broker assigns it
//	attributes            transactional and delete-horizon bits cleared; codec and
//	                      timestamp type kept
//	baseTimestamp         if the timestamp type was LogAppendTime: the maximal
//	                      timestamp, the time of the append; see below
//	producerId            -2 - logicalBase
//	producerEpoch         bit 0 = the timestamp type was LogAppendTime,
//	                      bit 1 = FlagFiller, bit 2 = FlagFollows,
//	                      bits 3-14 = bits 0-11 of the place
//	baseSequence          bits 0-18 = leaderEpoch, that of the source's leader; all ones
//	                      if it is unknown (< 0) or too large;
//	                      bits 19-30 = bits 12-23 of the place
//	crc                   corrected by the difference, so that damage to the records is
//	                      still found
//
// The place is the low 24 bits of the physical base offset at which the append has to land: see
// SetPlace and Chain. Stamp sets it to 0. Epoch and sequence are >= 0, because log compaction fails
// on a batch otherwise.
//
// With LogAppendTime all records of a batch have the time of the append, and clients ignore the
// timestamps of the records. A destination with CreateTime does not ignore them when it looks for a
// record by timestamp: it takes the base timestamp for the timestamp of the first record. If the
// base timestamp were still the producer's, the broker would pass over the batch, and a seek would
// end too late.
//
// The error wraps ErrMalformed and friends; b is then unchanged. Check decides whether the batch
// may be mirrored at all.
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

// The layout of a stamp: see Stamp. The place has 24 bits, 12 of them in the epoch, and 12 in the
// sequence.
const (
	flagsMask    int16 = 1<<placeShift - 1
	placeShift         = 3
	placeLowBits       = 12
	placeMask          = 1<<24 - 1
	epochBits          = 19
	unknownEpoch int32 = 1<<epochBits - 1
)

// setStamp writes the fields of the stamp that the checksum covers. leaderEpoch is in its range.
func (h Header) setStamp(logicalBase int64, flags int16, leaderEpoch int32, physical int64) {
	place := uint32(physical & placeMask)
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(firstStampedID-logicalBase))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], uint16(flags)|uint16(place&(1<<placeLowBits-1))<<placeShift)
	binary.BigEndian.PutUint32(h[atBaseSequence:], uint32(leaderEpoch)|place>>placeLowBits<<epochBits)
}

// SetPlace sets the physical base offset at which b, a batch of Stamp or Filler, has to land. It
// corrects the checksum by the difference and does not look at the records. The caller may call it
// again if the end of the log has moved before the batch is sent.
func SetPlace(b []byte, physical int64) { setPlace(b, physical, 0) }

// SetPlaceAfter is SetPlace for a batch that is sent before the append in front of it is confirmed.
// The batch gets FlagFollows, and counts only if that append stands right before it. See Chain.
func SetPlaceAfter(b []byte, physical int64) { setPlace(b, physical, FlagFollows) }

func setPlace(b []byte, physical int64, follows int16) {
	patchCRC(Header(b), func(h Header) {
		flags := h.ProducerEpoch()&flagsMask&^FlagFollows | follows
		h.setStamp(firstStampedID-h.ProducerID(), flags, h.BaseSequence()&unknownEpoch, physical)
	})
}

// ReadStamp reads what Stamp wrote: the logical base offset, the flags, and the source's leader
// epoch (-1 = unknown). The header suffices. ok is false for fewer than HeaderSize bytes, and for a
// batch without a stamp, which klink did not write. A stamp alone does not make the batch one of
// the mirror: see Counts.
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

// Counts reports whether b, a batch as it stands in the log of a mirror, has a stamp and stands at
// its place. A batch that does not is void for every reader: klink did not write it, or its append
// was doubled, came late, or follows one that was refused. A batch that does counts, unless it has
// FlagFollows: then it also depends on the batch before it, and Chain decides. Fillers count.
//
// A marker (a control batch, which the broker made) has no place in its stamp. klink writes a
// marker only at an offset that is the same at the source and here, and the marker counts if it
// stands there.
//
// A batch that is off by a multiple of 2^24 offsets would count. An owner never has that many
// offsets on their way.
func Counts(b []byte) bool {
	logical, _, _, ok := ReadStamp(b)
	return ok && Header(b).inPlace(logical)
}

// inPlace reports whether a batch that is stamped with this logical base offset stands at its
// place.
func (h Header) inPlace(logical int64) bool {
	if h.Control() {
		return h.BaseOffset() == logical
	}
	place := int64(h.ProducerEpoch()>>placeShift) | int64(h.BaseSequence()>>epochBits)<<placeLowBits
	return h.BaseOffset() >= 0 && place == h.BaseOffset()&placeMask
}

// FromAppendTime reports whether the records of a stamped batch have the time of the append: the
// maximal timestamp.
func FromAppendTime(b []byte) bool {
	_, flags, _, ok := ReadStamp(b)
	return ok && !Header(b).Control() && flags&flagLogAppendTime != 0
}

// Restore changes b, a batch on its way from the destination to a client, to what the source would
// have given, in place. Its base offset becomes logicalBase, and its timestamp type becomes
// LogAppendTime again if it was that at the source. The rest of the stamp stays, because clients
// ignore producer ids below 0. Restore needs only the first HeaderSize bytes: the records may still
// be on their way. For a batch without a stamp it only sets the base offset.
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
