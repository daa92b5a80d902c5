package kafkatest

// Watch has fn called with what clients send from now on, as it comes off their connections and
// before any stall; nil ends that. Bytes come in pieces of up to 64 KiB.
func (f *Faults) Watch(fn func([]byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = fn
}

// Strand resets the open connections on the side of the clients, keeps what is under way to the
// target until [Faults.Unstrand], and ends stalls for new connections: requests that their senders
// believe lost come late, as they may through a proxy, a load balancer or a network that
// retransmits.
func (f *Faults) Strand() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.stranded == nil {
			c.stranded = make(chan struct{})
			_ = c.client.SetLinger(0)
			c.client.Close()
		}
	}
	for _, open := range f.open {
		select {
		case <-open:
		default:
			close(open)
		}
	}
}

// Unstrand delivers what [Faults.Strand] has kept.
func (f *Faults) Unstrand() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.stranded == nil {
			continue
		}
		select {
		case <-c.stranded:
		default:
			close(c.stranded)
		}
	}
}

// strandedOf is closed when what a connection has stranded may go on, nil if nothing is stranded.
func (f *Faults) strandedOf(c *faultConn) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.stranded
}
