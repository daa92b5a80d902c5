package router

import (
	"fmt"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// refusals collects the topics of one Produce request that klink refuses. A client could make its
// answer expensive, so two things are bounded: the partitions in the answer, and the room for
// messages, which are sent for each partition. No real client comes near either bound.
type refusals struct {
	// byIndex holds the refused topics at their index in the request, and nil for the others, up to
	// the last refused one.
	byIndex []*protocol.RefusedProduce
	// topics are the refused topics in the frame of the request.
	topics []protocol.Span
	// partitions counts partitions and topics, because a topic without partitions costs as much as
	// a partition.
	partitions int
	room       int    // bytes left for messages
	why        string // the first message
}

const (
	maxRefusedPartitions = 100_000
	// messageRoom bounds the bytes of messages in an answer to a small request. For a large request
	// the bound is four times its size.
	messageRoom = 1 << 20
	// maxTopicName is the longest name a topic can have (Topic.MAX_NAME_LENGTH).
	maxTopicName = 249
)

func newRefusals(frame []byte) refusals { return refusals{room: max(messageRoom, 4*len(frame))} }

// add refuses the current topic of p. It leaves out the message if there is no room for it.
func (r *refusals) add(p *protocol.ProduceRequest, code *kerr.Error, message string) error {
	t := &protocol.RefusedProduce{
		Name:       append([]byte(nil), p.Name...),
		ID:         p.ID,
		Partitions: p.Partitions(),
		Code:       code.Code,
	}
	if r.partitions += 1 + len(t.Partitions); r.partitions > maxRefusedPartitions {
		return fmt.Errorf("a produce request with more than %d topics and partitions that have to be refused: %s", maxRefusedPartitions, message)
	}
	if len(r.topics) == 0 {
		r.why = message
	}
	if size := (len(message) + 3) * len(t.Partitions); size <= r.room {
		t.Message = message
		r.room -= size
	}
	for len(r.byIndex) < p.Index() {
		r.byIndex = append(r.byIndex, nil)
	}
	r.byIndex = append(r.byIndex, t)
	r.topics = append(r.topics, p.Span())
	return nil
}

// refuseProduce returns the reason why clients may not write to a topic; a nil code means that they
// may.
func refuseProduce(sn *Snapshot, topic string) (code *kerr.Error, message string) {
	if isInternal(topic) {
		if len(topic) > maxTopicName {
			return kerr.TopicAuthorizationFailed, "Topics whose names begin with '" + internalPrefix + "' belong to klink and cannot be written by clients"
		}
		return kerr.TopicAuthorizationFailed, fmt.Sprintf("Topic '%s' belongs to klink and cannot be written by clients", topic)
	}
	if m := sn.readOnlyMirror(topic); m != nil {
		return kerr.InvalidRequest, fmt.Sprintf("Cannot append records to read-only mirror topic '%s'", m.Topic)
	}
	return nil, ""
}
