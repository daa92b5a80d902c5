package kafkatest

// Watch calls fn with the bytes that clients send from now on, as they arrive and before any stall;
// nil ends that. Bytes come in pieces of up to 64 KiB.
func (f *Faults) Watch(fn func([]byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = fn
}

// Strand resets the open connections on the clients' side, holds their bytes in flight to the
// target until [Faults.Unstrand], and ends stalls for new connections. So requests that their
// senders believe lost arrive late, as they may through a proxy, a load balancer or a network that
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

// Unstrand delivers the bytes that [Faults.Strand] has held.
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

// strandedOf returns a channel that is closed when the stranded bytes of a connection may go on,
// nil if there are none.
func (f *Faults) strandedOf(c *faultConn) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.stranded
}
