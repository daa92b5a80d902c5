package replicator

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestAssignment: whatever members claim, no slot has two owners, and a slot that one member claims
// is given to no other. Members that follow their assignments get an even share of all slots within
// few generations, and after that nothing moves.
func TestAssignment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "members")
		var claims []claim
		for i := range n {
			claims = append(claims, claim{
				member: fmt.Sprint("m", i), owned: slotSet(rapid.Uint32().Draw(t, "owned")), generation: int32(rapid.IntRange(-1, 3).Draw(t, "generation")),
			})
		}
		for round := range 5 {
			given := assign(claims)
			check(t, claims, given)
			moved := false
			for i, c := range claims {
				got := given[c.member]
				moved = moved || got != c.owned&allSlots
				claims[i].owned, claims[i].generation = got, int32(10+round)
			}
			if !moved {
				if round > 3 {
					t.Fatalf("it took %d generations", round)
				}
				break
			}
			if round == 4 {
				t.Fatal("it does not come to an end")
			}
		}
		var all slotSet
		for _, c := range claims {
			all |= c.owned
			if got := c.owned.len(); got != slots/n && got != slots/n+1 {
				t.Fatalf("%d of %d slots for one of %d members", got, slots, n)
			}
		}
		if all != allSlots {
			t.Fatalf("in the end only %b is given", all)
		}
	})
}

func check(t *rapid.T, claims []claim, given map[string]slotSet) {
	var all slotSet
	for _, c := range claims {
		got := given[c.member]
		if got&all != 0 || got&^allSlots != 0 {
			t.Fatalf("%b is given twice, or is none", got&all)
		}
		all |= got
		for _, other := range claims {
			if other.member != c.member && got&other.owned&^c.owned != 0 {
				t.Fatalf("%s is given %b of what %s claims", c.member, got&other.owned, other.member)
			}
		}
	}
}

// TestGroupWords: an instance with the key can read what another instance has written. A message
// counts only unchanged, and only for its member, its group and, if it is an assignment, its
// generation.
func TestGroupWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, other := groupKey("key"), groupKey("other")
		owned := slotSet(rapid.Uint32().Draw(t, "owned")) & allSlots
		generation := rapid.Int32().Draw(t, "generation")
		said := claim{"m", owned, generation, loads{3: rapid.Uint16().Draw(t, "load")}}
		words := key.encodeClaim("g", said)
		if got, ok := key.decodeClaim("g", "m", words); got != said || !ok {
			t.Fatalf("%+v %v", got, ok)
		}
		members := rapid.IntRange(1, 100).Draw(t, "members")
		gift := key.encodeGift("g", "m", generation, owned, members)
		if got, n, ok := key.decodeGift("g", "m", generation, gift); got != owned || n != members || !ok {
			t.Fatalf("%b of %d: %v", got, n, ok)
		}
		for what, c := range map[string]struct {
			key           groupKey
			group, member string
			generation    int32
		}{
			"another key":    {other, "g", "m", generation},
			"another group":  {key, "h", "m", generation},
			"another member": {key, "g", "n", generation},
		} {
			if got, ok := c.key.decodeClaim(c.group, c.member, words); ok || got.owned != 0 || got.generation != -1 {
				t.Fatalf("%s: the claim counts: %+v", what, got)
			}
			if got, _, ok := c.key.decodeGift(c.group, c.member, c.generation, gift); ok || got != 0 {
				t.Fatalf("%s: the gift counts: %b", what, got)
			}
		}
		if got, _, ok := key.decodeGift("g", "m", generation+1, gift); ok || got != 0 {
			t.Fatalf("the gift of another generation counts: %b", got)
		}
		if _, ok := key.decodeClaim("g", "m", gift); ok {
			t.Fatal("a gift counts as a claim")
		}
		at := rapid.IntRange(0, len(words)-1).Draw(t, "at")
		changed := append([]byte(nil), words...)
		changed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, ok := key.decodeClaim("g", "m", changed); ok && got != said {
			t.Fatalf("a changed claim counts: %+v, said %+v", got, said)
		}
	})
}

func FuzzGroupWords(f *testing.F) {
	key := groupKey("key")
	f.Add(key.encodeClaim("g", claim{"m", 5, 3, loads{2: 7}}))
	f.Add(key.encodeGift("g", "m", 3, allSlots, 2))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := key.decodeClaim("g", "m", b); c.owned&^allSlots != 0 || !ok && c != (claim{member: "m", generation: -1}) {
			t.Fatalf("%+v", c)
		}
		if given, _, ok := key.decodeGift("g", "m", 3, b); given&^allSlots != 0 || !ok && given != 0 {
			t.Fatalf("%b", given)
		}
	})
}

// TestPlansHoldWhatMayBeWorkedOn: if a member's claim cannot be relied on, the slots that the last
// plan gave it are given to nobody else, once. Strangers get nothing and take nothing.
func TestPlansHoldWhatMayBeWorkedOn(t *testing.T) {
	p := &plan{
		generation: 5,
		claims:     []claim{{member: "a", owned: 0xff, generation: 4}, {member: "spoken for", generation: -1}, {member: "old", owned: 0xf00, generation: 3}, {member: "stranger", generation: -1}, {member: "c", generation: 4}},
		known:      []string{"a", "old", "c"},
		held:       map[string]slotSet{"spoken for": 0xff0000, "old": 0x1f00},
	}
	got := p.assign()
	var all slotSet
	for member, given := range got.given {
		if all&given != 0 {
			t.Errorf("%b is given twice", all&given)
		}
		all |= given
		if (member == "spoken for" || member == "stranger") && given != 0 || member != "old" && given&0x1f00 != 0 || given&0xff0000 != 0 {
			t.Errorf("%s is given %b", member, given)
		}
	}
	if len(got.given) != 5 || got.given["a"]&^0xff != 0 || got.given["old"]&^0x1f00 != 0 && got.given["old"]&0xff != 0 {
		t.Errorf("%v", got.given)
	}
}

// TestSlotsAreSpread: names are spread over the slots, and keep their slots. Another slot for a
// name would be another protocol.
func TestSlotsAreSpread(t *testing.T) {
	var counts [slots]int
	for i := range 100 * slots {
		counts[topicSlot(fmt.Sprint("topic-", i))]++
	}
	for slot, n := range counts {
		if n < 50 || n > 160 {
			t.Errorf("slot %d has %d of %d topics", slot, n, 100*slots)
		}
	}
	if got := [...]int{topicSlot("orders"), topicSlot("payments"), linkSlot("orders")}; got != [...]int{21, 19, 18} {
		t.Errorf("the slots of names have become %v", got)
	}
}

// settle makes members follow their assignments until nothing moves.
func settle(t *testing.T, claims []claim) (moves int) {
	t.Helper()
	for round := range 10 {
		given, moved := assign(claims), 0
		for i, c := range claims {
			moved += (given[c.member] &^ c.owned).len()
			claims[i].owned, claims[i].generation = given[c.member], int32(round)
		}
		if moves += moved; moved == 0 && round > 0 {
			return moves
		}
	}
	t.Fatal("it does not come to an end")
	return 0
}

// TestATopicIsSpread: however instances come and go, all of them copy a topic of 12 partitions. The
// largest part has at most two partitions more than an even one.
func TestATopicIsSpread(t *testing.T) {
	for _, order := range [][]int{{1, 2, 3, 4, 3, 2}, {3, 2, 3, 4, 5, 6}, {2, 3, 2, 1, 3}, {6, 4, 3}} {
		var claims []claim
		for step, n := range order {
			for len(claims) < n {
				claims = append(claims, claim{member: fmt.Sprint("m", step, len(claims)), generation: -1})
			}
			claims = claims[len(claims)-n:] // the oldest goes
			settle(t, claims)
			for first := range slots {
				for _, c := range claims {
					has := 0
					for p := range 12 {
						if c.owned.has((first + p) % slots) {
							has++
						}
					}
					if has < 12/n-1 || has > (12+n-1)/n+2 {
						t.Errorf("%v, step %d: of 12 partitions from slot %d on one of %d instances has %d: %024b", order, step, first, n, has, c.owned)
					}
				}
			}
		}
	}
}

// TestLoadIsShared: an instance that copies much has few slots besides. Small differences move
// nothing, and a slot that need not move stays.
func TestLoadIsShared(t *testing.T) {
	claims := []claim{{member: "a", generation: -1}, {member: "b", generation: -1}, {member: "c", generation: -1}}
	settle(t, claims)
	busy := claims[0].owned.list()
	var load loads
	for _, slot := range busy[:4] {
		load[slot] = 50
	}
	claims[0].load = load
	moves := settle(t, claims)
	var most, all int
	for _, c := range claims {
		sum := 0
		for _, slot := range c.owned.list() {
			sum += 1 + int(load[slot])
		}
		most, all = max(most, sum), all+sum
	}
	// Of four slots of equal weight one of three members has two.
	if most > 2*51+slots || all != 4*50+slots {
		t.Errorf("the heaviest share is %d of %d", most, all)
	}
	if moves > 16 {
		t.Errorf("%d slots have moved", moves)
	}
	before := fmt.Sprint(claims[0].owned, claims[1].owned, claims[2].owned)
	for _, slot := range busy[:4] {
		load[slot] += uint16(slot % 4)
	}
	claims[0].load = load
	if moves := settle(t, claims); moves != 0 || fmt.Sprint(claims[0].owned, claims[1].owned, claims[2].owned) != before {
		t.Errorf("%d slots have moved because of little", moves)
	}
}

// TestMeter: a load is reported again only after it has been different for a while.
func TestMeter(t *testing.T) {
	var m meter
	idle, busy := [slots]int64{}, [slots]int64{3: 100 * loadUnit * 10, 5: loadUnit * 9}
	for range 10 {
		if m.add(idle, loadInterval) {
			t.Fatal("nothing has changed")
		}
	}
	n := 0
	for !m.add(busy, loadInterval) {
		if n++; n > 10 {
			t.Fatal("it is not told")
		}
	}
	if n < loadRounds-1 {
		t.Errorf("told after %d measurements", n+1)
	}
	for range 20 {
		m.add(busy, loadInterval)
	}
	if l := m.say(); l[3] < 98 || l[3] > 100 || l[5] != 0 || l.sum() != int(l[3]) {
		t.Errorf("%v", l)
	}
	for range 10 {
		if m.add(busy, loadInterval) {
			t.Fatal("nothing has changed since it was told")
		}
	}
}
