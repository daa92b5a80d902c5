package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"

	"klink/protocol/timeline"
)

// Resolver tells a rewrite what klink knows. Its methods must not allocate, and must not keep name.
type Resolver interface {
	// Topic returns the mirror of a topic in a response. In versions that have topic ids it looks
	// up id, and name is nil; else it looks up name. A nil Mirror means an ordinary topic. known is
	// false if klink does not know the name of the id, so that the topic might be a mirror.
	Topic(name []byte, id [16]byte) (m Mirror, known bool)
	Brokers
}

// Brokers knows the addresses at which clients reach the brokers through klink.
type Brokers interface {
	// Address returns the address of a broker; ok is false if klink has no listener for it yet.
	Address(broker int32) (host string, port int32, ok bool)
}

// Mirror is one topic whose offsets are translated.
type Mirror interface {
	View(partition int32) View
}

// View says how clients see a partition of a mirror. The zero View shows the partition as it is.
type View struct {
	// Timeline translates the offsets. If it is nil, clients see the offsets as they are, or none
	// if Hidden.
	Timeline *timeline.Partition
	// Hidden: klink does not know the timeline of the partition yet, so its offsets would be wrong.
	// The answer is NOT_LEADER_OR_FOLLOWER, which makes every client ask again.
	Hidden bool
	// Denied: clients may not read the partition. It is hidden (Hidden is set too), and the answer
	// is TOPIC_AUTHORIZATION_FAILED.
	Denied bool
	// Stamped: only klink writes to the partition. So a stamp in a batch is klink's own, and a
	// batch without one does not belong there. After a mirror was stopped, batches without a stamp
	// are the topic's own.
	Stamped bool
	// Dry: nothing is changed. Misses is called for every position that cannot be translated
	// without a probe; it may be nil.
	Dry    bool
	Misses Misses
}

// Misses is called with each physical offset that has to be probed.
type Misses interface{ Miss(probe int64) }

// Position is the kind of place that a physical offset in a response stands for.
type Position uint8

const (
	// AtRecord is the offset of a record.
	AtRecord Position = iota
	// AtEnd is a high watermark, a last stable offset, or another offset that may be the end of the
	// log.
	AtEnd
	// AtStart is the log start offset.
	AtStart
)

// Find translates a physical offset; see timeline.FindLogical for probe and ok.
func (v View) Find(physical int64, at Position) (logical, probe int64, ok bool) {
	switch at {
	case AtRecord:
		return v.Timeline.FindRecord(physical)
	case AtStart:
		return v.Timeline.FindLogStart(physical)
	}
	return v.Timeline.FindLogical(physical)
}

// notReady is the error code of a hidden partition. It is retriable for producers, consumers and
// admin clients of every version, and it tells them that the request had no effect.
var notReady = kerr.NotLeaderForPartition.Code

// answered returns v without Misses if the broker answered with an error: such a client may not be
// allowed to know the offset, so nothing is probed for it.
func (v View) answered(code []byte) View {
	if code != nil && binary.BigEndian.Uint16(code) != 0 {
		v.Misses = nil
	}
	return v
}

// hideError sets the error code of a hidden partition, unless the broker's error is right without
// offsets too.
func (v View) hideError(code []byte) {
	switch c := int16(binary.BigEndian.Uint16(code)); {
	case v.Dry:
	case v.Denied:
		binary.BigEndian.PutUint16(code, uint16(kerr.TopicAuthorizationFailed.Code))
	case c == 0, c == kerr.OffsetOutOfRange.Code:
		binary.BigEndian.PutUint16(code, uint16(notReady))
	}
}

// toLogical translates the offset at b in place. An offset that would need a probe becomes a lower
// bound: never too high.
func (v View) toLogical(b []byte, at Position) {
	logical, probe, ok := v.Find(int64(binary.BigEndian.Uint64(b)), at)
	if v.Dry {
		if !ok && v.Misses != nil {
			v.Misses.Miss(probe)
		}
		return
	}
	binary.BigEndian.PutUint64(b, uint64(logical))
}

// show rewrites the offset at b to what clients see.
func (v View) show(b []byte, at Position) {
	switch {
	case v.Hidden && !v.Dry:
		putUnknown(b)
	case v.Timeline != nil:
		v.toLogical(b, at)
	}
}

// putUnknown sets the offset at b to -1.
func putUnknown(b []byte) { binary.BigEndian.PutUint64(b, ^uint64(0)) }
