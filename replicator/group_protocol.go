package replicator

import (
	"encoding/json"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TasksTopic is the topic that the slots are the partitions of, as far as the group of klink's instances is concerned, and the
// group's name. Instances that are not alone tell each other in it how far their mirrors are; see board.
const TasksTopic = "_klink_tasks"

const (
	// groupProtocolType and the format of what is said make the group one that Kafka's tools can show.
	groupProtocolType = "consumer"
	// groupProtocol names what the members have to agree on: how slots are numbered (slotOf), and assign's rules.
	groupProtocol = "klink-24"
)

// maxGroupBytes bounds what is decoded of another member's words.
const maxGroupBytes = 64 << 10

// said is what a member says beside what consumers say.
type said struct {
	Generation int32 `json:"generation"`
	Members    int   `json:"members,omitempty"` // of the generation; the leader's word
}

// encodeClaim is what a member joins with.
func encodeClaim(owned slotSet, generation int32) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{TasksTopic}
	m.UserData, _ = json.Marshal(said{Generation: generation})
	if owned != 0 {
		m.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: TasksTopic, Partitions: owned.list()}}
	}
	return m.AppendTo(nil)
}

// decodeClaim reads what a member has joined with. One that cannot be read claims nothing: it is not klink's.
func decodeClaim(member string, b []byte) claim {
	c := claim{member: member, generation: -1}
	m := kmsg.NewConsumerMemberMetadata()
	var s said
	if len(b) > maxGroupBytes || m.ReadFrom(b) != nil || json.Unmarshal(m.UserData, &s) != nil {
		return c
	}
	c.generation = s.Generation
	for _, o := range m.OwnedPartitions {
		if o.Topic == TasksTopic {
			c.owned |= setOf(o.Partitions)
		}
	}
	return c
}

// encodeGift is what the leader has the coordinator tell a member.
func encodeGift(given slotSet, members int) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.UserData, _ = json.Marshal(said{Members: members})
	if given != 0 {
		a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: TasksTopic, Partitions: given.list()}}
	}
	return a.AppendTo(nil)
}

// decodeGift reads what the leader gives. Nothing is given where it cannot be read.
func decodeGift(b []byte) (given slotSet, members int) {
	a := kmsg.NewConsumerMemberAssignment()
	var s said
	if len(b) > maxGroupBytes || a.ReadFrom(b) != nil || json.Unmarshal(a.UserData, &s) != nil {
		return 0, 0
	}
	for _, t := range a.Topics {
		if t.Topic == TasksTopic {
			given |= setOf(t.Partitions)
		}
	}
	return given, s.Members
}
