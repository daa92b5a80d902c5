package proxy

import (
	"encoding/binary"
	"sync/atomic"
)

// Stats are the counters of a Proxy. All except Connections and RequestMemory only grow. Any
// goroutine may read them at any time; counting allocates nothing.
type Stats struct {
	// Connections is the number of open client connections, including those still in a handshake.
	Connections atomic.Int64
	// Accepted counts accepted client connections.
	Accepted atomic.Int64
	// Bytes on the wire (with TLS, encrypted bytes), from and to clients and brokers.
	ClientReceived, ClientSent, UpstreamReceived, UpstreamSent atomic.Int64
	// Pauses counts how often klink suspended reading from a side, for back-pressure or for want of
	// memory.
	Pauses atomic.Int64
	// RequestMemory is how much of Config.RequestMemory is in use, in bytes. It goes up and down.
	RequestMemory atomic.Int64
	// Panics counts bugs that cost one connection each.
	Panics atomic.Int64

	closed   [numReasons]atomic.Int64
	requests [requestKeys * requestVersions]atomic.Int64
}

// Requests are counted by API key and version: kafkaKeys keys of Kafka's, and 16 keys from
// klinkKeys on. All other requests share one counter.
const (
	kafkaKeys       = 112
	klinkKeys       = 15000
	requestKeys     = kafkaKeys + 16
	requestVersions = 32
)

// Closed returns how many connections ended for a reason.
func (s *Stats) Closed(r Reason) int64 { return s.closed[r].Load() }

// EachRequest calls f for each API key and version with the number of its requests so far, if that
// is not 0. Requests with keys or versions that cannot exist are reported as key -1, version -1.
func (s *Stats) EachRequest(f func(key, version int16, n int64)) {
	for i := range s.requests {
		n := s.requests[i].Load()
		if n == 0 {
			continue
		}
		key, version := int16(i/requestVersions), int16(i%requestVersions)
		switch {
		case key == kafkaKeys-1 && version == requestVersions-1:
			key, version = -1, -1
		case key >= kafkaKeys:
			key += klinkKeys - kafkaKeys
		}
		f(key, version, n)
	}
}

// countRequest counts a request frame by its key and version. frame has at least 12 bytes.
func (s *Stats) countRequest(frame []byte) {
	key, version := binary.BigEndian.Uint16(frame[4:]), binary.BigEndian.Uint16(frame[6:])
	if key >= klinkKeys {
		key = key - klinkKeys + kafkaKeys
	} else if key >= kafkaKeys {
		key = requestKeys
	}
	if key >= requestKeys || version >= requestVersions {
		key, version = kafkaKeys-1, requestVersions-1
	}
	s.requests[int(key)*requestVersions+int(version)].Add(1)
}
