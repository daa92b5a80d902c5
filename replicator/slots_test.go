package replicator

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestAssignment: whatever members claim, no slot has two owners, and none is given to somebody else than the one who claims
// it. Members that do as they are told come to an even share of all slots in few generations, and nothing moves after that.
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

// TestGroupWords: what is said comes back; what is not klink's claims and gives nothing, and does no harm.
func TestGroupWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owned := slotSet(rapid.Uint32().Draw(t, "owned")) & allSlots
		generation := rapid.Int32().Draw(t, "generation")
		if got := decodeClaim("m", encodeClaim(owned, generation)); got != (claim{"m", owned, generation}) {
			t.Fatalf("%+v", got)
		}
		members := rapid.IntRange(1, 100).Draw(t, "members")
		if got, n := decodeGift(encodeGift(owned, members)); got != owned || n != members {
			t.Fatalf("%b of %d", got, n)
		}
	})
}

func FuzzGroupWords(f *testing.F) {
	f.Add(encodeClaim(5, 3))
	f.Add(encodeGift(allSlots, 2))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := decodeClaim("m", b); c.owned&^allSlots != 0 {
			t.Fatalf("%b", c.owned)
		}
		if given, _ := decodeGift(b); given&^allSlots != 0 {
			t.Fatalf("%b", given)
		}
	})
}

// TestSlotsAreSpread: names are spread over the slots, and stay where they are: another number for a name is another protocol.
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
