package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"

	"klink/protocol/timeline"
)

// Resolver tells a rewrite what klink knows. Its methods must not allocate, nor keep name.
type Resolver interface {
	// Topic finds the mirror that a topic of a response is: by id from the versions on that have ids (name is nil),
	// else by name. A nil Mirror is an ordinary topic. known is false if the id's name is not known, so that it might
	// be a mirror.
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
	// Hidden: the partition belongs to a mirror whose timeline is not known yet. Its offsets would be wrong, so it is
	// answered NOT_LEADER_OR_FOLLOWER, which makes every client ask again.
	Hidden bool
	// Denied: clients may not read the partition. It is hidden (Hidden is set too), and answered
	// TOPIC_AUTHORIZATION_FAILED.
	Denied bool
	// Stamped: batches of the partition were written by klink alone, so a stamp in one is klink's own. After a mirror
	// has been stopped anyone may write producer ids that look like a stamp.
	Stamped bool
}

// notReady is the error of a hidden partition. It is retriable for producers, consumers and admin clients of every
// version, and says that nothing has happened.
var notReady = kerr.NotLeaderForPartition.Code

// hideError sets the error code of a hidden partition, unless it has one that is right without offsets too.
func (v View) hideError(code []byte) {
	switch c := int16(binary.BigEndian.Uint16(code)); {
	case v.Denied:
		binary.BigEndian.PutUint16(code, uint16(kerr.TopicAuthorizationFailed.Code))
	case c == 0, c == kerr.OffsetOutOfRange.Code:
		binary.BigEndian.PutUint16(code, uint16(notReady))
	}
}

// toLogical translates the offset at b in place.
func (v View) toLogical(b []byte) {
	binary.BigEndian.PutUint64(b, uint64(v.Timeline.ToLogical(int64(binary.BigEndian.Uint64(b)))))
}

// putUnknown sets the offset at b to -1.
func putUnknown(b []byte) { binary.BigEndian.PutUint64(b, ^uint64(0)) }
