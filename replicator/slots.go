package replicator

import (
	"hash/fnv"
	"math/bits"
	"slices"
	"strings"
)

// slots is how many shares the work of a destination has. Partition 0 of a mirror belongs to the
// slot that the name of its topic hashes to, and each further partition to the next one, so that
// many instances copy one topic. What concerns the mirror as a whole belongs to the slot of
// partition 0: who has it is the mirror's coordinator. What is done for a link belongs to the slot
// of the link's name. All this is part of what instances agree on (groupProtocol): else a partition
// would be in two slots.
const slots = 24

// slotsOf is the slots of the partitions of a mirror, and that of the mirror itself.
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

// list is the slots in order.
func (s slotSet) list() []int32 {
	list := make([]int32, 0, s.len())
	for ; s != 0; s &= s - 1 {
		list = append(list, int32(bits.TrailingZeros32(uint32(s))))
	}
	return list
}

// setOf is the set of the slots in a list; what is no slot is left out: the list may come from
// anybody.
func setOf(list []int32) (s slotSet) {
	for _, slot := range list {
		if slot >= 0 && slot < slots {
			s |= 1 << slot
		}
	}
	return s
}

// loads is how much there is to copy in each slot, in units of loadUnit.
type loads [slots]uint16

const (
	// loadUnit is a load in bytes per second. A slot with less counts as one in which nothing is
	// copied, and one with n units as much as n+1 of those.
	loadUnit = 2 << 20
	maxLoad  = 10_000
)

func (l loads) sum() (sum int) {
	for _, n := range l {
		sum += int(n)
	}
	return sum
}

// claim is what a member of the group says that it works on, or may still have an append in flight
// for.
type claim struct {
	member     string
	owned      slotSet
	generation int32 // of the group, in which it was given them
	// load is what it has copied lately, also in slots that it has just let go of.
	load loads
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

// assign makes the plan. A slot that is held is nobody's in this generation, unless its holder
// claims it.
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
//     generation, when the member has let go of it and joins again without it, or is no member any
//     more.
//  2. No slot has two owners. Of several who claim one, that of the latest generation keeps it; if
//     there are several of those, nobody has it until they have let go.
//  3. Members keep what they have, but for what must move to make shares even: by load, and where
//     there is none by number, so that they differ by one at most. Work whose move would lighten
//     the heaviest share by less than a sixteenth of a fair one stays.
//  4. Shares have slots from everywhere, not runs of them, so that each has some of the partitions
//     of a topic.
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
		given[c.member] = d.shares[i] & (c.owned | free) // what another one claims it may have later
	}
	return given
}

// division is how slots are to be shared in the end.
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

// ends are the shares that weigh most and least; of equal ones the first.
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

// give gives free slots away: those that weigh most first, to who has least.
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

// even moves slots from who has most to who has least, as long as that is worth it.
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

// near is how near the slots of a set are to a slot, around the circle; more = nearer.
func (s slotSet) near(slot int) (sum int) {
	for _, other := range s.list() {
		distance := (slot - int(other) + slots) % slots
		distance = max(1, min(distance, slots-distance))
		sum += 1_000_000 / (distance * distance)
	}
	return sum
}
