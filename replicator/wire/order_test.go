package wire

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestOrderFindsEverything: find finds each partition of a response in any order, and no other one.
func TestOrderFindsEverything(t *testing.T) {
	var o Order
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			name      string
			id        [16]byte
			partition int32
			at        int
		}
		o.Reset()
		var all []entry
		topics := rapid.IntRange(1, 5).Draw(t, "topics")
		for n := range topics {
			e := entry{name: fmt.Sprint("topic", n), id: [16]byte{byte(n)}}
			o.AddTopic(e.name, e.id)
			for _, p := range rapid.Permutation([]int32{0, 1, 2, 3, 4, 5}).Draw(t, "partitions")[:rapid.IntRange(1, 6).Draw(t, "n")] {
				e.partition, e.at = p, len(all)
				o.Add(p)
				all = append(all, e)
			}
		}
		byID := rapid.Bool().Draw(t, "by id")
		for range rapid.IntRange(1, 40).Draw(t, "look-ups") {
			e := rapid.SampledFrom(all).Draw(t, "entry")
			if rapid.Bool().Draw(t, "in order") {
				e = all[(e.at+1)%len(all)]
			}
			if got := o.Find([]byte(e.name), &e.id, byID, e.partition); got != e.at {
				t.Fatalf("%v is at %d, found at %d", e, e.at, got)
			}
			if rapid.IntRange(0, 5).Draw(t, "stranger") == 0 {
				if got := o.Find([]byte("stranger"), &[16]byte{99}, byID, 0); got >= 0 {
					t.Fatalf("a stranger is found at %d", got)
				}
				if got := o.Find([]byte(e.name), &e.id, byID, 77); got >= 0 {
					t.Fatalf("a partition that is not there is found at %d", got)
				}
			}
		}
	})
	o.Reset()
	if got := o.Find([]byte("topic0"), &[16]byte{}, false, 0); got >= 0 {
		t.Errorf("found at %d of nothing", got)
	}
}
