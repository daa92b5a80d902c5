package router

import (
	"sync"
	"sync/atomic"
)

// Directory knows the brokers of the destination as clients reach them through klink, and the names of topic ids. Reads
// take no lock. A topic id never changes its name, so what is known of one stays true; a topic that is deleted and
// created again gets another id.
type Directory struct {
	mu      sync.Mutex // writers
	brokers atomic.Pointer[map[int32]Addr]
	topics  atomic.Pointer[map[[16]byte]string]
}

// SetBrokers publishes the advertised addresses by broker id.
func (d *Directory) SetBrokers(brokers map[int32]Addr) { d.brokers.Store(&brokers) }

// Broker returns the advertised address of a broker.
func (d *Directory) Broker(id int32) (Addr, bool) {
	m := d.brokers.Load()
	if m == nil {
		return Addr{}, false
	}
	a, ok := (*m)[id]
	return a, ok
}

// SetTopics replaces the known topic ids.
func (d *Directory) SetTopics(topics map[[16]byte]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.topics.Store(&topics)
}

// Topic returns the name of a topic id; "" with ok = the id is known not to exist.
func (d *Directory) Topic(id [16]byte) (name string, ok bool) {
	m := d.topics.Load()
	if m == nil {
		return "", false
	}
	name, ok = (*m)[id]
	return name, ok
}
