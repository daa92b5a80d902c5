package core

// pop removes the items in flight from the queue and frees their bytes. It returns one item that
// stands for all of them, without usable bytes.
func (p *Partition) pop() Item {
	all := p.Queue[0]
	all.Records = 0
	for _, i := range p.Queue[:p.Flight] {
		all.Records += i.Records
		all.Seen = i.Seen
		p.Queued -= len(i.Bytes)
		if !i.Markers() {
			p.release(i)
		}
	}
	clear(p.Queue[:p.Flight])
	p.Queue = p.Queue[p.Flight:]
	p.Flight, p.Begun, p.ahead, p.waited = 0, 0, 0, len(p.Queue) > 0
	return all
}

// push adds an item at the end of the queue, and reuses the queue's memory.
func (p *Partition) push(i Item) {
	if n := len(p.Queue); n == cap(p.Queue) {
		to := p.items[:cap(p.items)]
		if len(to) < 2*(n+1) {
			to = make([]Item, max(8, 2*(n+1)))
		}
		copy(to, p.Queue)
		clear(to[n:])
		p.items, p.Queue = to, to[:n]
	}
	p.Queue = append(p.Queue, i)
}

// drop forgets the queued items that are not in flight, and the fetch that runs. All of it will be
// fetched again.
func (p *Partition) drop() {
	keep := p.Flight
	for _, i := range p.Queue[keep:] {
		p.Queued -= len(i.Bytes)
		if !i.Markers() {
			p.release(i)
		}
	}
	clear(p.Queue[keep:])
	p.Queue = p.Queue[:keep]
	p.Gen++
	p.Fetching = false
	p.truncations, p.holeLen = 0, 0
	p.FetchAt, p.Tail, p.Seen = p.Next, p.DoneTail, p.Done
	if keep > 0 {
		i := p.Queue[keep-1]
		p.FetchAt, p.Tail, p.Seen = i.End(), i.End(), i.Seen
	}
	p.Doomed = nil
}
