package group

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
		var claims []Claim
		for i := range n {
			claims = append(claims, Claim{
				Member: fmt.Sprint("m", i), Owned: SlotSet(rapid.Uint32().Draw(t, "owned")), Generation: int32(rapid.IntRange(-1, 3).Draw(t, "generation")),
			})
		}
		for round := range 5 {
			given := assign(claims)
			check(t, claims, given)
			moved := false
			for i, c := range claims {
				got := given[c.Member]
				moved = moved || got != c.Owned&AllSlots
				claims[i].Owned, claims[i].Generation = got, int32(10+round)
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
		var all SlotSet
		for _, c := range claims {
			all |= c.Owned
			if got := c.Owned.Len(); got != Slots/n && got != Slots/n+1 {
				t.Fatalf("%d of %d slots for one of %d members", got, Slots, n)
			}
		}
		if all != AllSlots {
			t.Fatalf("in the end only %b is given", all)
		}
	})
}

func check(t *rapid.T, claims []Claim, given map[string]SlotSet) {
	var all SlotSet
	for _, c := range claims {
		got := given[c.Member]
		if got&all != 0 || got&^AllSlots != 0 {
			t.Fatalf("%b is given twice, or is none", got&all)
		}
		all |= got
		for _, other := range claims {
			if other.Member != c.Member && got&other.Owned&^c.Owned != 0 {
				t.Fatalf("%s is given %b of what %s claims", c.Member, got&other.Owned, other.Member)
			}
		}
	}
}

// TestGroupWords: an instance with the key can read what another instance has written. A message
// counts only unchanged, and only for its member, its group and, if it is an assignment, its
// generation.
func TestGroupWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, other := Key("key"), Key("other")
		owned := SlotSet(rapid.Uint32().Draw(t, "owned")) & AllSlots
		generation := rapid.Int32().Draw(t, "generation")
		said := Claim{Member: "m", Owned: owned, Generation: generation, Load: Loads{3: rapid.Uint16().Draw(t, "load")}}
		words := key.EncodeClaim("g", said)
		if got, ok := key.DecodeClaim("g", "m", words); got != said || !ok {
			t.Fatalf("%+v %v", got, ok)
		}
		members := rapid.IntRange(1, 100).Draw(t, "members")
		gift := key.EncodeGift("g", "m", generation, owned, members)
		if got, n, ok := key.DecodeGift("g", "m", generation, gift); got != owned || n != members || !ok {
			t.Fatalf("%b of %d: %v", got, n, ok)
		}
		for what, c := range map[string]struct {
			key           Key
			group, member string
			generation    int32
		}{
			"another key":    {other, "g", "m", generation},
			"another group":  {key, "h", "m", generation},
			"another member": {key, "g", "n", generation},
		} {
			if got, ok := c.key.DecodeClaim(c.group, c.member, words); ok || got.Owned != 0 || got.Generation != -1 {
				t.Fatalf("%s: the claim counts: %+v", what, got)
			}
			if got, _, ok := c.key.DecodeGift(c.group, c.member, c.generation, gift); ok || got != 0 {
				t.Fatalf("%s: the gift counts: %b", what, got)
			}
		}
		if got, _, ok := key.DecodeGift("g", "m", generation+1, gift); ok || got != 0 {
			t.Fatalf("the gift of another generation counts: %b", got)
		}
		if _, ok := key.DecodeClaim("g", "m", gift); ok {
			t.Fatal("a gift counts as a claim")
		}
		at := rapid.IntRange(0, len(words)-1).Draw(t, "at")
		changed := append([]byte(nil), words...)
		changed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, ok := key.DecodeClaim("g", "m", changed); ok && got != said {
			t.Fatalf("a changed claim counts: %+v, said %+v", got, said)
		}
	})
}

func FuzzGroupWords(f *testing.F) {
	key := Key("key")
	f.Add(key.EncodeClaim("g", Claim{Member: "m", Owned: 5, Generation: 3, Load: Loads{2: 7}}))
	f.Add(key.EncodeGift("g", "m", 3, AllSlots, 2))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := key.DecodeClaim("g", "m", b); c.Owned&^AllSlots != 0 || !ok && c != (Claim{Member: "m", Generation: -1}) {
			t.Fatalf("%+v", c)
		}
		if given, _, ok := key.DecodeGift("g", "m", 3, b); given&^AllSlots != 0 || !ok && given != 0 {
			t.Fatalf("%b", given)
		}
	})
}

// TestPlansHoldWhatMayBeWorkedOn: if a member's claim cannot be relied on, the slots that the last
// plan gave it are given to nobody else, once. Strangers get nothing and take nothing.
func TestPlansHoldWhatMayBeWorkedOn(t *testing.T) {
	p := &Plan{
		Generation: 5,
		Claims:     []Claim{{Member: "a", Owned: 0xff, Generation: 4}, {Member: "spoken for", Generation: -1}, {Member: "old", Owned: 0xf00, Generation: 3}, {Member: "stranger", Generation: -1}, {Member: "c", Generation: 4}},
		Known:      []string{"a", "old", "c"},
		Held:       map[string]SlotSet{"spoken for": 0xff0000, "old": 0x1f00},
	}
	got := p.Assign()
	var all SlotSet
	for member, given := range got.Given {
		if all&given != 0 {
			t.Errorf("%b is given twice", all&given)
		}
		all |= given
		if (member == "spoken for" || member == "stranger") && given != 0 || member != "old" && given&0x1f00 != 0 || given&0xff0000 != 0 {
			t.Errorf("%s is given %b", member, given)
		}
	}
	if len(got.Given) != 5 || got.Given["a"]&^0xff != 0 || got.Given["old"]&^0x1f00 != 0 && got.Given["old"]&0xff != 0 {
		t.Errorf("%v", got.Given)
	}
}

// TestSlotsAreSpread: names are spread over the slots, and keep their slots. Another slot for a
// name would be another protocol.
func TestSlotsAreSpread(t *testing.T) {
	var counts [Slots]int
	for i := range 100 * Slots {
		counts[TopicSlot(fmt.Sprint("topic-", i))]++
	}
	for slot, n := range counts {
		if n < 50 || n > 160 {
			t.Errorf("slot %d has %d of %d topics", slot, n, 100*Slots)
		}
	}
	if got := [...]int{TopicSlot("orders"), TopicSlot("payments"), LinkSlot("orders")}; got != [...]int{21, 19, 18} {
		t.Errorf("the slots of names have become %v", got)
	}
}

// settle makes members follow their assignments until nothing moves.
func settle(t *testing.T, claims []Claim) (moves int) {
	t.Helper()
	for round := range 10 {
		given, moved := assign(claims), 0
		for i, c := range claims {
			moved += (given[c.Member] &^ c.Owned).Len()
			claims[i].Owned, claims[i].Generation = given[c.Member], int32(round)
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
		var claims []Claim
		for step, n := range order {
			for len(claims) < n {
				claims = append(claims, Claim{Member: fmt.Sprint("m", step, len(claims)), Generation: -1})
			}
			claims = claims[len(claims)-n:] // the oldest goes
			settle(t, claims)
			for first := range Slots {
				for _, c := range claims {
					has := 0
					for p := range 12 {
						if c.Owned.Has((first + p) % Slots) {
							has++
						}
					}
					if has < 12/n-1 || has > (12+n-1)/n+2 {
						t.Errorf("%v, step %d: of 12 partitions from slot %d on one of %d instances has %d: %024b", order, step, first, n, has, c.Owned)
					}
				}
			}
		}
	}
}

// TestLoadIsShared: an instance that copies much has few slots besides. Small differences move
// nothing, and a slot that need not move stays.
func TestLoadIsShared(t *testing.T) {
	claims := []Claim{{Member: "a", Generation: -1}, {Member: "b", Generation: -1}, {Member: "c", Generation: -1}}
	settle(t, claims)
	busy := claims[0].Owned.List()
	var load Loads
	for _, slot := range busy[:4] {
		load[slot] = 50
	}
	claims[0].Load = load
	moves := settle(t, claims)
	var most, all int
	for _, c := range claims {
		sum := 0
		for _, slot := range c.Owned.List() {
			sum += 1 + int(load[slot])
		}
		most, all = max(most, sum), all+sum
	}
	// Of four slots of equal weight one of three members has two.
	if most > 2*51+Slots || all != 4*50+Slots {
		t.Errorf("the heaviest share is %d of %d", most, all)
	}
	if moves > 16 {
		t.Errorf("%d slots have moved", moves)
	}
	before := fmt.Sprint(claims[0].Owned, claims[1].Owned, claims[2].Owned)
	for _, slot := range busy[:4] {
		load[slot] += uint16(slot % 4)
	}
	claims[0].Load = load
	if moves := settle(t, claims); moves != 0 || fmt.Sprint(claims[0].Owned, claims[1].Owned, claims[2].Owned) != before {
		t.Errorf("%d slots have moved because of little", moves)
	}
}

// TestMeter: a load is reported again only after it has been different for a while.
func TestMeter(t *testing.T) {
	var m Meter
	idle, busy := [Slots]int64{}, [Slots]int64{3: 100 * loadUnit * 10, 5: loadUnit * 9}
	for range 10 {
		if m.Add(idle, LoadInterval) {
			t.Fatal("nothing has changed")
		}
	}
	n := 0
	for !m.Add(busy, LoadInterval) {
		if n++; n > 10 {
			t.Fatal("it is not told")
		}
	}
	if n < loadRounds-1 {
		t.Errorf("told after %d measurements", n+1)
	}
	for range 20 {
		m.Add(busy, LoadInterval)
	}
	if l := m.Say(); l[3] < 98 || l[3] > 100 || l[5] != 0 || l.sum() != int(l[3]) {
		t.Errorf("%v", l)
	}
	for range 10 {
		if m.Add(busy, LoadInterval) {
			t.Fatal("nothing has changed since it was told")
		}
	}
}
