package replicator

// pop removes the items in flight from the queue and frees their bytes. It returns one item that
// stands for all of them, without usable bytes.
func (p *partition) pop() item {
	all := p.queue[0]
	all.records = 0
	for _, i := range p.queue[:p.flight] {
		all.records += i.records
		all.seen = i.seen
		p.queued -= len(i.bytes)
		if !i.markers() {
			p.release(i)
		}
	}
	clear(p.queue[:p.flight])
	p.queue = p.queue[p.flight:]
	p.flight, p.begun, p.ahead, p.waited = 0, 0, 0, len(p.queue) > 0
	return all
}

// push adds an item at the end of the queue, and reuses the queue's memory.
func (p *partition) push(i item) {
	if n := len(p.queue); n == cap(p.queue) {
		to := p.items[:cap(p.items)]
		if len(to) < 2*(n+1) {
			to = make([]item, max(8, 2*(n+1)))
		}
		copy(to, p.queue)
		clear(to[n:])
		p.items, p.queue = to, to[:n]
	}
	p.queue = append(p.queue, i)
}

// drop forgets the queued items that are not in flight, and the fetch that runs. All of it will be
// fetched again.
func (p *partition) drop() {
	keep := p.flight
	for _, i := range p.queue[keep:] {
		p.queued -= len(i.bytes)
		if !i.markers() {
			p.release(i)
		}
	}
	clear(p.queue[keep:])
	p.queue = p.queue[:keep]
	p.gen++
	p.fetching = false
	p.truncations, p.holeLen = 0, 0
	p.fetchAt, p.tail, p.seen = p.next, p.doneTail, p.done
	if keep > 0 {
		i := p.queue[keep-1]
		p.fetchAt, p.tail, p.seen = i.end(), i.end(), i.seen
	}
	p.doomed = nil
}
