package replicator

import (
	"hash/fnv"
	"math/bits"
	"slices"
	"strings"
)

// slots is how many shares the work of a destination has. A mirror, with all its partitions, belongs to the slot that the name
// of its topic hashes to, and what is done for a link to the slot of the link's name. The number is part of what instances
// agree on (groupProtocol): with another one they would take a topic for two slots.
const slots = 24

// slotSet is a set of slots.
type slotSet uint32

const allSlots slotSet = 1<<slots - 1

func slotOf(kind, name string) int {
	h := fnv.New32a()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return int(h.Sum32() % slots)
}

func topicSlot(topic string) int { return slotOf("topic", topic) }
func linkSlot(link string) int   { return slotOf("link", link) }

func (s slotSet) has(slot int) bool { return s>>slot&1 == 1 }
func (s slotSet) len() int          { return bits.OnesCount32(uint32(s)) }

// lowest is the n lowest slots of s.
func (s slotSet) lowest(n int) (low slotSet) {
	for ; n > 0 && s != 0; n-- {
		one := s & -s
		low |= one
		s &^= one
	}
	return low
}

// list is the slots in order.
func (s slotSet) list() []int32 {
	list := make([]int32, 0, s.len())
	for ; s != 0; s &= s - 1 {
		list = append(list, int32(bits.TrailingZeros32(uint32(s))))
	}
	return list
}

// setOf is the set of the slots in a list; what is no slot is left out: the list may come from anybody.
func setOf(list []int32) (s slotSet) {
	for _, slot := range list {
		if slot >= 0 && slot < slots {
			s |= 1 << slot
		}
	}
	return s
}

// claim is what a member of the group says that it works on, or may still have an append in flight for.
type claim struct {
	member     string
	owned      slotSet
	generation int32 // of the group, in which it was given them
}

// plan is what the leader of a generation knows of the members, and what it gives them.
type plan struct {
	generation int32
	claims     []claim            // of all members; of a stranger an empty one
	known      []string           // the members that are instances of klink
	held       map[string]slotSet // by member: what is given to nobody else, though it is not claimed
	given      map[string]slotSet // by member, strangers included, who get nothing
	withheld   slotSet            // what is held and was given to nobody
	strangers  []string           // members that are no instances of klink
}

// assign makes the plan. A slot that is held is nobody's in this generation, unless its holder claims it.
func (p *plan) assign() plan {
	var instances []claim
	for _, c := range p.claims {
		if slices.Contains(p.known, c.member) {
			instances = append(instances, c)
		}
	}
	p.given = assign(instances)
	for member, held := range p.held {
		for other := range p.given {
			if other != member {
				p.given[other] &^= held
			}
		}
		p.withheld |= held &^ p.given[member]
	}
	for _, c := range p.claims {
		p.given[c.member] |= 0
	}
	return *p
}

// assign gives slots to the members of a generation.
//
// Invariants:
//  1. A slot that a member claims is given to no other member. It becomes free in a later generation, when the member has let
//     go of it and joins again without it, or is no member any more.
//  2. No slot has two owners. Of several who claim one, that of the latest generation keeps it; if there are several of
//     those, nobody has it until they have let go.
//  3. When nobody claims more than its share, all slots that no two claim are given away, and the shares differ by one at most.
//     Members keep what they have.
func assign(claims []claim) map[string]slotSet {
	claims = slices.Clone(claims)
	var once, contested slotSet
	for i, c := range claims {
		claims[i].owned &= allSlots
		contested |= once & claims[i].owned
		once |= c.owned & allSlots
	}
	for slot := range slots {
		if !contested.has(slot) {
			continue
		}
		latest, n := int32(-1), 0
		for _, c := range claims {
			switch {
			case !c.owned.has(slot) || c.generation < latest:
			case c.generation > latest:
				latest, n = c.generation, 1
			default:
				n++
			}
		}
		for i, c := range claims {
			if c.owned.has(slot) && (c.generation < latest || n > 1) {
				claims[i].owned &^= 1 << slot
			}
		}
	}
	// Who has most keeps the larger shares, so that nothing moves without need.
	slices.SortFunc(claims, func(a, b claim) int {
		if d := b.owned.len() - a.owned.len(); d != 0 {
			return d
		}
		return strings.Compare(a.member, b.member)
	})
	given := make(map[string]slotSet, len(claims))
	free := allSlots &^ once
	for i, c := range claims {
		given[c.member] = c.owned.lowest(share(i, len(claims)))
	}
	for i, c := range claims {
		more := free.lowest(share(i, len(claims)) - given[c.member].len())
		given[c.member] |= more
		free &^= more
	}
	return given
}

// share is how many slots the nth of so many members gets.
func share(nth, members int) int {
	if nth < slots%members {
		return slots/members + 1
	}
	return slots / members
}
