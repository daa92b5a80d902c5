package group

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
	// ProtocolType and the format of claims and assignments are those of consumers, so that
	// Kafka's tools can show the group.
	ProtocolType = "consumer"
	// Protocol names what the members must agree on: how slots are numbered (PartitionSlot),
	// assign's rules, and proofs.
	Protocol = "klink-24-3"
)

// MaxBytes bounds what is decoded of another member's metadata, or of an assignment.
const MaxBytes = 64 << 10

// Key is a secret that only the instances of a destination know: a record of the state topic,
// which only klink may read. A coordinator lets everybody with READ on the group join it, and
// stores any metadata and any assignment. So each claim and each assignment carries a proof
// (HMAC-SHA256) that its author knows the key.
//
// The proof covers the group, the member id and the generation. The coordinator makes each member
// id once, at random. So a proof is of no use to another member, in another group or, for
// assignments, in another generation.
type Key []byte

func (k Key) proof(what, group, member string, generation int32, slots SlotSet, members int, load Loads) []byte {
	mac := hmac.New(sha256.New, k)
	fmt.Fprintf(mac, "%s\x00%s\x00%s\x00%d %d %d %d", what, group, member, generation, slots, members, load)
	return mac.Sum(nil)
}

// Said is what klink adds to the fields that consumers exchange.
type Said struct {
	Generation int32  `json:"generation"`
	Members    int    `json:"members,omitempty"` // instances of klink in it, as the leader counts
	Load       Loads  `json:"load,omitzero"`
	Proof      []byte `json:"proof,omitempty"`
}

// EncodeClaim returns the metadata that a member joins with. It has no proof before the coordinator
// has given the member an id.
func (k Key) EncodeClaim(group string, c Claim) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{TasksTopic}
	s := Said{Generation: c.Generation, Load: c.Load}
	if c.Member != "" {
		s.Proof = k.proof("claim", group, c.Member, c.Generation, c.Owned, 0, c.Load)
	}
	m.UserData, _ = json.Marshal(s)
	if c.Owned != 0 {
		m.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: TasksTopic, Partitions: c.Owned.List()}}
	}
	return m.AppendTo(nil)
}

// DecodeClaim reads the metadata that a member has joined with. ok is false if it is not from an
// instance of klink; then it claims nothing.
func (k Key) DecodeClaim(group, member string, b []byte) (c Claim, ok bool) {
	c = Claim{Member: member, Generation: -1}
	m := kmsg.NewConsumerMemberMetadata()
	var s Said
	if len(b) > MaxBytes || m.ReadFrom(b) != nil || json.Unmarshal(m.UserData, &s) != nil {
		return c, false
	}
	var owned SlotSet
	for _, o := range m.OwnedPartitions {
		if o.Topic == TasksTopic {
			owned |= SetOf(o.Partitions)
		}
	}
	if !hmac.Equal(s.Proof, k.proof("claim", group, member, s.Generation, owned, 0, s.Load)) {
		return c, false
	}
	c.Owned, c.Generation, c.Load = owned, s.Generation, s.Load
	return c, true
}

// EncodeGift returns the assignment that the leader of a generation makes for a member.
func (k Key) EncodeGift(group, member string, generation int32, given SlotSet, members int) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.UserData, _ = json.Marshal(Said{Generation: generation, Members: members, Proof: k.proof("gift", group, member, generation, given, members, Loads{})})
	if given != 0 {
		a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: TasksTopic, Partitions: given.List()}}
	}
	return a.AppendTo(nil)
}

// DecodeGift reads the assignment that the leader of a generation makes for a member. ok is false
// if it is not from an instance of klink, for this member in this generation; then it neither gives
// nor takes anything.
func (k Key) DecodeGift(group, member string, generation int32, b []byte) (given SlotSet, members int, ok bool) {
	given, s, ok := k.gift(group, member, b)
	if !ok || s.Generation != generation {
		return 0, 0, false
	}
	return given, s.Members, true
}

// Assigned returns what some generation of the group has given a member; ok is false if the
// assignment is not from an instance of klink.
func (k Key) Assigned(group, member string, b []byte) (given SlotSet, ok bool) {
	given, _, ok = k.gift(group, member, b)
	return given, ok
}

// gift reads an assignment and checks its proof.
func (k Key) gift(group, member string, b []byte) (given SlotSet, s Said, ok bool) {
	a := kmsg.NewConsumerMemberAssignment()
	if len(b) > MaxBytes || a.ReadFrom(b) != nil || json.Unmarshal(a.UserData, &s) != nil {
		return 0, Said{}, false
	}
	for _, t := range a.Topics {
		if t.Topic == TasksTopic {
			given |= SetOf(t.Partitions)
		}
	}
	if !hmac.Equal(s.Proof, k.proof("gift", group, member, s.Generation, given, s.Members, Loads{})) {
		return 0, Said{}, false
	}
	return given, s, true
}
