package proxy

import (
	"runtime/debug"
	"time"
)

// When many connections have been set up, and then none for a while, klink returns the memory left
// behind to the operating system. Handshakes leave several times as much garbage as a connection
// keeps. An idle process would collect it only after minutes, and return it even later. With
// thousands of clients that reconnect at once, the difference is hundreds of megabytes.
const (
	quietSetups = 256
	quietFor    = time.Second
	quietEvery  = 30 * time.Second // at most
)

// quiet decides when to do that. Only the ticker's goroutine uses it.
type quiet struct {
	setups    int64     // seen so far
	collected int64     // setups at the last collection
	still     time.Time // when the last new one was seen
	last      time.Time // the time of the last collection
}

// due reports whether to collect now, given how many connections have been set up in all.
func (q *quiet) due(setups int64, now time.Time) bool {
	if setups != q.setups {
		q.setups, q.still = setups, now
		return false
	}
	if setups-q.collected < quietSetups || now.Sub(q.still) < quietFor || now.Sub(q.last) < quietEvery {
		return false
	}
	q.collected, q.last = setups, now
	return true
}

// collect is called at every tick.
func (p *Proxy) collect() {
	if p.quiet.due(p.stats.Accepted.Load(), time.Now()) {
		go debug.FreeOSMemory()
	}
}
