package group

import (
	"hash/fnv"
	"math/bits"
	"slices"
	"strings"
)

// Slots is the number of shares into which the work for a destination is divided. Partition 0 of a
// mirror belongs to the slot that the name of its topic hashes to, and each further partition to
// the next slot, so that many instances copy one topic. What concerns the mirror as a whole belongs
// to the slot of partition 0, whose owner is the mirror's coordinator. The work for a link belongs
// to the slot of the link's name. All instances must agree on this (groupProtocol); otherwise a
// partition would be in two slots.
const Slots = 24

// SlotsOf returns the slots of a mirror's partitions, including the slot of the mirror itself.
func SlotsOf(topic string, partitions int) (s SlotSet) {
	for p := range max(1, min(partitions, Slots)) {
		s |= 1 << PartitionSlot(topic, int32(p))
	}
	return s
}

// SlotSet is a set of slots.
type SlotSet uint32

// AllSlots is the set of all slots.
const AllSlots SlotSet = 1<<Slots - 1

func slotOf(kind, name string) int {
	h := fnv.New32a()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return int(h.Sum32() % Slots)
}

// TopicSlot returns the slot of a mirror as a whole; its owner is the coordinator.
func TopicSlot(topic string) int { return slotOf("topic", topic) }

// PartitionSlot returns the slot of a partition of a mirror.
func PartitionSlot(topic string, partition int32) int {
	return (TopicSlot(topic) + int(partition)%Slots) % Slots
}

// LinkSlot returns the slot of a link: of its health and its tasks.
func LinkSlot(link string) int { return slotOf("link", link) }

// Has reports whether the set has a slot.
func (s SlotSet) Has(slot int) bool { return s>>slot&1 == 1 }

// Len returns how many slots the set has.
func (s SlotSet) Len() int { return bits.OnesCount32(uint32(s)) }

// List returns the slots in order.
func (s SlotSet) List() []int32 {
	list := make([]int32, 0, s.Len())
	for ; s != 0; s &= s - 1 {
		list = append(list, int32(bits.TrailingZeros32(uint32(s))))
	}
	return list
}

// SetOf returns the set of the slots in a list. It ignores numbers that are no slots, since the
// list may come from anybody.
func SetOf(list []int32) (s SlotSet) {
	for _, slot := range list {
		if slot >= 0 && slot < Slots {
			s |= 1 << slot
		}
	}
	return s
}

// Loads is the load of each slot, in units of loadUnit.
type Loads [Slots]uint16

const (
	// loadUnit is one unit of load, in bytes per second. A slot with less counts as one in which
	// nothing is copied. A slot with n units weighs as much as n+1 slots in which nothing is
	// copied.
	loadUnit = 2 << 20
	maxLoad  = 10_000
)

func (l Loads) sum() (sum int) {
	for _, n := range l {
		sum += int(n)
	}
	return sum
}

// Claim is what a member of the group says about itself: which slots it works on, or may still have
// an append in flight for.
type Claim struct {
	Member     string
	Owned      SlotSet
	Generation int32 // of the group, in which it was given the slots
	// Load is what it has copied lately, also in slots that it has just given back.
	Load Loads
}

// Plan is what the leader of a generation knows about the members, and which slots it gives them.
type Plan struct {
	Generation int32
	Claims     []Claim            // of all members; a stranger has an empty one
	Known      []string           // the members that are instances of klink
	Held       map[string]SlotSet // by member: unclaimed slots that nobody else is given
	Given      map[string]SlotSet // by member, strangers included, who get nothing
	Withheld   SlotSet            // slots that are held and were given to nobody
	Strangers  []string           // members that are no instances of klink
}

// Assign makes the plan. In this generation, a slot that is held is given to its holder or to
// nobody.
func (p *Plan) Assign() Plan {
	var instances []Claim
	for _, c := range p.Claims {
		if slices.Contains(p.Known, c.Member) {
			instances = append(instances, c)
		}
	}
	p.Given = assign(instances)
	for member, held := range p.Held {
		for other := range p.Given {
			if other != member {
				p.Given[other] &^= held
			}
		}
		p.Withheld |= held &^ p.Given[member]
	}
	for _, c := range p.Claims {
		p.Given[c.Member] |= 0
	}
	return *p
}

// assign gives slots to the members of a generation.
//
// Invariants:
//  1. A slot that a member claims is given to no other member. It becomes free in a later
//     generation, once the member has given it back and has joined again without it, or is no
//     longer a member.
//  2. No slot has two owners. If several members claim a slot, the one of the latest generation
//     keeps it. If several are of the latest generation, nobody has the slot until they have given
//     it back.
//  3. Members keep their slots, except those that must move to make the shares even: by load or,
//     where there is none, by number, so that shares differ by at most one slot. A slot stays if
//     its move would lighten the heaviest share by less than a sixteenth of a fair one.
//  4. The slots of a share are spread out, not in runs, so that each share has some of the
//     partitions of a topic.
func assign(claims []Claim) map[string]SlotSet {
	claims = slices.Clone(claims)
	var once, contested SlotSet
	weight := [Slots]int{}
	for i, c := range claims {
		claims[i].Owned &= AllSlots
		contested |= once & claims[i].Owned
		once |= c.Owned & AllSlots
		for slot, load := range c.Load {
			weight[slot] = max(weight[slot], 1+int(load))
		}
	}
	for slot := range Slots {
		if !contested.Has(slot) {
			continue
		}
		latest, n := int32(-1), 0
		for _, c := range claims {
			switch {
			case !c.Owned.Has(slot) || c.Generation < latest:
			case c.Generation > latest:
				latest, n = c.Generation, 1
			default:
				n++
			}
		}
		for i, c := range claims {
			if c.Owned.Has(slot) && (c.Generation < latest || n > 1) {
				claims[i].Owned &^= 1 << slot
			}
		}
	}
	slices.SortFunc(claims, func(a, b Claim) int { return strings.Compare(a.Member, b.Member) })
	free := AllSlots &^ once
	d := division{weight: weight, total: 0}
	for _, c := range claims {
		d.shares = append(d.shares, c.Owned)
	}
	for _, w := range weight {
		d.total += w
	}
	d.give(free)
	d.even()
	given := make(map[string]SlotSet, len(claims))
	for i, c := range claims {
		given[c.Member] = d.shares[i] & (c.Owned | free) // others first let go of theirs
	}
	return given
}

// division is the distribution of slots that assign aims at.
type division struct {
	weight [Slots]int
	total  int
	shares []SlotSet
}

func (d *division) of(share SlotSet) (sum int) {
	for _, slot := range share.List() {
		sum += d.weight[slot]
	}
	return sum
}

// ends returns the heaviest and the lightest share; of equal ones the first.
func (d *division) ends() (heaviest, lightest int) {
	for i, s := range d.shares {
		if d.of(s) > d.of(d.shares[heaviest]) {
			heaviest = i
		}
		if d.of(s) < d.of(d.shares[lightest]) {
			lightest = i
		}
	}
	return heaviest, lightest
}

// give gives away free slots: the heaviest first, each to the lightest share.
func (d *division) give(free SlotSet) {
	for free != 0 && len(d.shares) > 0 {
		_, to := d.ends()
		best, bestNear := -1, 0
		for _, s := range free.List() {
			slot, near := int(s), d.shares[to].near(int(s))
			if best < 0 || d.weight[slot] > d.weight[best] || d.weight[slot] == d.weight[best] && near < bestNear {
				best, bestNear = slot, near
			}
		}
		free &^= 1 << best
		d.shares[to] |= 1 << best
	}
}

// even moves slots from the heaviest share to the lightest one, as long as that is worth it.
func (d *division) even() {
	for len(d.shares) > 1 {
		from, to := d.ends()
		most, least := d.of(d.shares[from]), d.of(d.shares[to])
		best, bestMost, bestNear := -1, most, 0
		for _, s := range d.shares[from].List() {
			slot := int(s)
			left := max(most-d.weight[slot], least+d.weight[slot])
			near := d.shares[to].near(slot) - (d.shares[from] &^ (1 << slot)).near(slot)
			if left < bestMost || best >= 0 && left == bestMost && near < bestNear {
				best, bestMost, bestNear = slot, left, near
			}
		}
		if best < 0 || (most-bestMost)*16*len(d.shares) <= d.total {
			return
		}
		d.shares[from] &^= 1 << best
		d.shares[to] |= 1 << best
	}
}

// near returns how near the slots of a set are to a slot, around the circle of slots; more =
// nearer.
func (s SlotSet) near(slot int) (sum int) {
	for _, other := range s.List() {
		distance := (slot - int(other) + Slots) % Slots
		distance = max(1, min(distance, Slots-distance))
		sum += 1_000_000 / (distance * distance)
	}
	return sum
}
