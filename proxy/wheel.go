package proxy

// wheel is a hashed timer wheel for the pairs of one loop. One tick of the loop visits one slot, so
// ten thousand idle connections need no timers. Every pair of the loop is in exactly one slot: the
// wheel is also the list of all pairs.
//
// A pair is visited no later than its due tick, perhaps earlier. Activity does not move a pair; it
// only stores the tick.
type wheel struct {
	slots [wheelSlots]*pair
	now   uint32
}

const wheelSlots = 128

// add schedules a visit of a pair at the tick due, or one turn of the wheel from now if that is
// earlier.
func (w *wheel) add(x *pair, due uint32) {
	ahead := min(max(int32(due-w.now), 1), wheelSlots-1)
	x.due = w.now + uint32(ahead)
	x.slot = uint8(x.due % wheelSlots)
	x.prev, x.next = nil, w.slots[x.slot]
	if x.next != nil {
		x.next.prev = x
	}
	w.slots[x.slot] = x
	x.inWheel = true
}

func (w *wheel) remove(x *pair) {
	if !x.inWheel {
		return
	}
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		w.slots[x.slot] = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.prev, x.next, x.inWheel = nil, nil, false
}

// tick advances the wheel by one tick and calls visit for each pair in the slot, after removing it
// from the wheel.
func (w *wheel) tick(visit func(*pair)) {
	w.now++
	slot := w.now % wheelSlots
	// A visit may remove other pairs of the slot, so take one at a time. It cannot add any to this
	// slot.
	for x := w.slots[slot]; x != nil; x = w.slots[slot] {
		w.remove(x)
		visit(x)
	}
}

// each calls f for every pair; f may remove the pair it is given.
func (w *wheel) each(f func(*pair)) {
	for _, x := range w.slots {
		for x != nil {
			next := x.next
			f(x)
			x = next
		}
	}
}
