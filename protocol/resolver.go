package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"

	"klink/protocol/timeline"
)

// Resolver tells a rewrite what klink knows. Its methods must not allocate, nor keep name.
type Resolver interface {
	// Topic finds the mirror that a topic of a response is: by id from the versions on that have
	// ids (name is nil), else by name. A nil Mirror is an ordinary topic. known is false if the
	// id's name is not known, so that it might be a mirror.
	Topic(name []byte, id [16]byte) (m Mirror, known bool)
	Brokers
}

// Brokers knows the addresses at which clients reach the brokers.
type Brokers interface {
	// Address is the address of a broker; ok is false if klink has no listener for it yet.
	Address(broker int32) (host string, port int32, ok bool)
}

// Mirror is one topic whose offsets are translated.
type Mirror interface {
	View(partition int32) View
}

// View says how a partition of a mirror is shown to clients. The zero View is "as it is".
type View struct {
	// Timeline translates the offsets; nil = they are shown as they are, or not at all.
	Timeline *timeline.Partition
	// Hidden: the partition belongs to a mirror whose timeline is not known yet. Its offsets would
	// be wrong, so it is answered NOT_LEADER_OR_FOLLOWER, which makes every client ask again.
	Hidden bool
	// Denied: clients may not read the partition. It is hidden (Hidden is set too), and answered
	// TOPIC_AUTHORIZATION_FAILED.
	Denied bool
	// Stamped: batches of the partition were written by klink alone, so a stamp in one is klink's
	// own, and a batch without one does not belong there. After a mirror has been stopped, what has
	// no stamp is the topic's own.
	Stamped bool
	// Dry: nothing is changed, and Misses is told of every position that cannot be translated
	// without a probe. It may be nil.
	Dry    bool
	Misses Misses
}

// Misses is told of the physical offsets that have to be probed.
type Misses interface{ Miss(probe int64) }

// Position says what a physical offset in a response is.
type Position uint8

const (
	// AtRecord is an offset where there is a record.
	AtRecord Position = iota
	// AtEnd is a high watermark, a last stable offset, or another place that may be the end of the
	// log.
	AtEnd
	// AtStart is the log start.
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

// notReady is the error of a hidden partition. It is retriable for producers, consumers and admin
// clients of every version, and says that nothing has happened.
var notReady = kerr.NotLeaderForPartition.Code

// answered is v, of which nothing is missed where the broker has answered with an error: the client
// may not be one that may know the offset.
func (v View) answered(code []byte) View {
	if code != nil && binary.BigEndian.Uint16(code) != 0 {
		v.Misses = nil
	}
	return v
}

// hideError sets the error code of a hidden partition, unless it has one that is right without
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

// toLogical translates the offset at b in place. What would need a probe becomes a lower bound:
// never too much.
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

// show makes the offset at b what clients see.
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
