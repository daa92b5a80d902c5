package protocol

// tagWalk follows one section of tagged fields (KIP-482), varint by varint: a count, then key, size
// and value of each.
type tagWalk struct {
	after int // what follows the section; the grammar's own
	state uint8
	left  int // tags that are still to come, with the one at hand
	key   int
	rest  int // size of the value of the tag at hand
}

const (
	tagCount uint8 = iota
	tagKey
	tagSize
	tagEnd
)

func (t *tagWalk) begin(after int) { *t = tagWalk{after: after} }

// take takes the next varint. True: either the section has ended, or key and rest are those of a
// tag whose value is next.
func (t *tagWalk) take(v int) bool {
	switch t.state {
	case tagCount:
		t.left, t.state = v, tagKey
		if v == 0 {
			t.state = tagEnd
		}
		return v == 0
	case tagKey:
		t.key, t.state = v, tagSize
		return false
	default:
		t.rest = v
		return true
	}
}

func (t *tagWalk) ended() bool { return t.state == tagEnd }

// next goes on after the value of a tag; false = that was the last one.
func (t *tagWalk) next() bool {
	t.left--
	t.state = tagKey
	if t.left == 0 {
		t.state = tagEnd
	}
	return t.left > 0
}
