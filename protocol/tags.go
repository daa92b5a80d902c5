package protocol

// tagWalk follows one section of tagged fields (KIP-482), varint by varint: a count, then for each
// tag its key, size and value.
type tagWalk struct {
	after int // what follows the section; only the grammar knows its meaning
	state uint8
	left  int // tags that are still to come, the current one included
	key   int
	rest  int // size of the current tag's value
}

const (
	tagCount uint8 = iota
	tagKey
	tagSize
	tagEnd
)

func (t *tagWalk) begin(after int) { *t = tagWalk{after: after} }

// take handles the next varint. It returns true if the section has ended, or if the value of a tag
// is next, whose key and size are in key and rest.
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

// next moves on after the value of a tag. It returns false if that was the last tag.
func (t *tagWalk) next() bool {
	t.left--
	t.state = tagKey
	if t.left == 0 {
		t.state = tagEnd
	}
	return t.left > 0
}
