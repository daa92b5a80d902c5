package replicator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TasksTopic is the topic whose partitions stand for the slots in the group protocol. It is also
// the default name of the group. If there is more than one instance, they publish in it how far
// their mirrors are; see board.
const TasksTopic = "_klink_tasks"

const (
	// groupProtocolType and the format of claims and assignments are those of consumers, so that
	// Kafka's tools can show the group.
	groupProtocolType = "consumer"
	// groupProtocol names what the members must agree on: how slots are numbered (partitionSlot),
	// assign's rules, and proofs.
	groupProtocol = "klink-24-3"
)

// maxGroupBytes bounds what is decoded of another member's metadata, or of an assignment.
const maxGroupBytes = 64 << 10

// groupKey is a secret that only the instances of a destination know: a record of the state topic,
// which only klink may read. A coordinator lets everybody with READ on the group join it, and
// stores any metadata and any assignment. So each claim and each assignment carries a proof
// (HMAC-SHA256) that its author knows the key.
//
// The proof covers the group, the member id and the generation. The coordinator makes each member
// id once, at random. So a proof is of no use to another member, in another group or, for
// assignments, in another generation.
type groupKey []byte

func (k groupKey) proof(what, group, member string, generation int32, slots slotSet, members int, load loads) []byte {
	mac := hmac.New(sha256.New, k)
	fmt.Fprintf(mac, "%s\x00%s\x00%s\x00%d %d %d %d", what, group, member, generation, slots, members, load)
	return mac.Sum(nil)
}

// said is what klink adds to the fields that consumers exchange.
type said struct {
	Generation int32  `json:"generation"`
	Members    int    `json:"members,omitempty"` // instances of klink in it, as the leader counts
	Load       loads  `json:"load,omitzero"`
	Proof      []byte `json:"proof,omitempty"`
}

// encodeClaim returns the metadata that a member joins with. It has no proof before the coordinator
// has given the member an id.
func (k groupKey) encodeClaim(group string, c claim) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{TasksTopic}
	s := said{Generation: c.generation, Load: c.load}
	if c.member != "" {
		s.Proof = k.proof("claim", group, c.member, c.generation, c.owned, 0, c.load)
	}
	m.UserData, _ = json.Marshal(s)
	if c.owned != 0 {
		m.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: TasksTopic, Partitions: c.owned.list()}}
	}
	return m.AppendTo(nil)
}

// decodeClaim reads the metadata that a member has joined with. ok is false if it is not from an
// instance of klink; then it claims nothing.
func (k groupKey) decodeClaim(group, member string, b []byte) (c claim, ok bool) {
	c = claim{member: member, generation: -1}
	m := kmsg.NewConsumerMemberMetadata()
	var s said
	if len(b) > maxGroupBytes || m.ReadFrom(b) != nil || json.Unmarshal(m.UserData, &s) != nil {
		return c, false
	}
	var owned slotSet
	for _, o := range m.OwnedPartitions {
		if o.Topic == TasksTopic {
			owned |= setOf(o.Partitions)
		}
	}
	if !hmac.Equal(s.Proof, k.proof("claim", group, member, s.Generation, owned, 0, s.Load)) {
		return c, false
	}
	c.owned, c.generation, c.load = owned, s.Generation, s.Load
	return c, true
}

// encodeGift returns the assignment that the leader of a generation makes for a member.
func (k groupKey) encodeGift(group, member string, generation int32, given slotSet, members int) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.UserData, _ = json.Marshal(said{Generation: generation, Members: members, Proof: k.proof("gift", group, member, generation, given, members, loads{})})
	if given != 0 {
		a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: TasksTopic, Partitions: given.list()}}
	}
	return a.AppendTo(nil)
}

// decodeGift reads the assignment that the leader of a generation makes for a member. ok is false
// if it is not from an instance of klink, for this member in this generation; then it neither gives
// nor takes anything.
func (k groupKey) decodeGift(group, member string, generation int32, b []byte) (given slotSet, members int, ok bool) {
	given, s, ok := k.gift(group, member, b)
	if !ok || s.Generation != generation {
		return 0, 0, false
	}
	return given, s.Members, true
}

// assigned returns what some generation of the group has given a member; ok is false if the
// assignment is not from an instance of klink.
func (k groupKey) assigned(group, member string, b []byte) (given slotSet, ok bool) {
	given, _, ok = k.gift(group, member, b)
	return given, ok
}

// gift reads an assignment and checks its proof.
func (k groupKey) gift(group, member string, b []byte) (given slotSet, s said, ok bool) {
	a := kmsg.NewConsumerMemberAssignment()
	if len(b) > maxGroupBytes || a.ReadFrom(b) != nil || json.Unmarshal(a.UserData, &s) != nil {
		return 0, said{}, false
	}
	for _, t := range a.Topics {
		if t.Topic == TasksTopic {
			given |= setOf(t.Partitions)
		}
	}
	if !hmac.Equal(s.Proof, k.proof("gift", group, member, s.Generation, given, s.Members, loads{})) {
		return 0, said{}, false
	}
	return given, s, true
}
