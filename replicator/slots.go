package replicator

import (
	"hash/fnv"
	"math/bits"
	"slices"
	"strings"
)

// slots is the number of shares into which the work for a destination is divided. Partition 0 of a
// mirror belongs to the slot that the name of its topic hashes to, and each further partition to
// the next slot, so that many instances copy one topic. What concerns the mirror as a whole belongs
// to the slot of partition 0, whose owner is the mirror's coordinator. The work for a link belongs
// to the slot of the link's name. All instances must agree on this (groupProtocol); otherwise a
// partition would be in two slots.
const slots = 24

// slotsOf returns the slots of a mirror's partitions, including the slot of the mirror itself.
func slotsOf(topic string, partitions int) (s slotSet) {
	for p := range max(1, min(partitions, slots)) {
		s |= 1 << partitionSlot(topic, int32(p))
	}
	return s
}

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

func partitionSlot(topic string, partition int32) int {
	return (topicSlot(topic) + int(partition)%slots) % slots
}
func linkSlot(link string) int { return slotOf("link", link) }

func (s slotSet) has(slot int) bool { return s>>slot&1 == 1 }
func (s slotSet) len() int          { return bits.OnesCount32(uint32(s)) }

// list returns the slots in order.
func (s slotSet) list() []int32 {
	list := make([]int32, 0, s.len())
	for ; s != 0; s &= s - 1 {
		list = append(list, int32(bits.TrailingZeros32(uint32(s))))
	}
	return list
}

// setOf returns the set of the slots in a list. It ignores numbers that are no slots, since the
// list may come from anybody.
func setOf(list []int32) (s slotSet) {
	for _, slot := range list {
		if slot >= 0 && slot < slots {
			s |= 1 << slot
		}
	}
	return s
}

// loads is the load of each slot, in units of loadUnit.
type loads [slots]uint16

const (
	// loadUnit is one unit of load, in bytes per second. A slot with less counts as one in which
	// nothing is copied. A slot with n units weighs as much as n+1 slots in which nothing is
	// copied.
	loadUnit = 2 << 20
	maxLoad  = 10_000
)

func (l loads) sum() (sum int) {
	for _, n := range l {
		sum += int(n)
	}
	return sum
}

// claim is what a member of the group says about itself: which slots it works on, or may still have
// an append in flight for.
type claim struct {
	member     string
	owned      slotSet
	generation int32 // of the group, in which it was given the slots
	// load is what it has copied lately, also in slots that it has just given back.
	load loads
}

// plan is what the leader of a generation knows about the members, and which slots it gives them.
type plan struct {
	generation int32
	claims     []claim            // of all members; a stranger has an empty one
	known      []string           // the members that are instances of klink
	held       map[string]slotSet // by member: unclaimed slots that nobody else is given
	given      map[string]slotSet // by member, strangers included, who get nothing
	withheld   slotSet            // slots that are held and were given to nobody
	strangers  []string           // members that are no instances of klink
}

// assign makes the plan. In this generation, a slot that is held is given to its holder or to
// nobody.
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
func assign(claims []claim) map[string]slotSet {
	claims = slices.Clone(claims)
	var once, contested slotSet
	weight := [slots]int{}
	for i, c := range claims {
		claims[i].owned &= allSlots
		contested |= once & claims[i].owned
		once |= c.owned & allSlots
		for slot, load := range c.load {
			weight[slot] = max(weight[slot], 1+int(load))
		}
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
	slices.SortFunc(claims, func(a, b claim) int { return strings.Compare(a.member, b.member) })
	free := allSlots &^ once
	d := division{weight: weight, total: 0}
	for _, c := range claims {
		d.shares = append(d.shares, c.owned)
	}
	for _, w := range weight {
		d.total += w
	}
	d.give(free)
	d.even()
	given := make(map[string]slotSet, len(claims))
	for i, c := range claims {
		given[c.member] = d.shares[i] & (c.owned | free) // others first let go of theirs
	}
	return given
}

// division is the distribution of slots that assign aims at.
type division struct {
	weight [slots]int
	total  int
	shares []slotSet
}

func (d *division) of(share slotSet) (sum int) {
	for _, slot := range share.list() {
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
func (d *division) give(free slotSet) {
	for free != 0 && len(d.shares) > 0 {
		_, to := d.ends()
		best, bestNear := -1, 0
		for _, s := range free.list() {
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
		for _, s := range d.shares[from].list() {
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
func (s slotSet) near(slot int) (sum int) {
	for _, other := range s.list() {
		distance := (slot - int(other) + slots) % slots
		distance = max(1, min(distance, slots-distance))
		sum += 1_000_000 / (distance * distance)
	}
	return sum
}
