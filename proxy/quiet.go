package proxy

import (
	"runtime/debug"
	"time"
)

// After many connections have been set up, and then none for a while, what that left behind is
// given back to the operating system. Handshakes make garbage of several times what a connection
// keeps, and a process that is idle afterwards would collect it after minutes, and return it even
// later: with thousands of clients that reconnect at once, the difference is hundreds of megabytes.
const (
	quietSetups = 256
	quietFor    = time.Second
	quietEvery  = 30 * time.Second // at most
)

// quiet decides when to do that. It belongs to the ticker's goroutine.
type quiet struct {
	setups    int64     // seen so far
	collected int64     // setups at the last collection
	still     time.Time // since when there is no new one
	last      time.Time // collection
}

// due says whether it is time, given how many connections have been set up in all.
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
