package replicator

import "time"

const (
	// loadInterval is how often klink measures how much it copies.
	loadInterval = 10 * time.Second
	// loadAgain is the least time between two rebalances that an instance asks for because its load
	// has changed.
	loadAgain = 5 * time.Minute
	// loadChange is the least change of a load, in units, for which an instance asks for a
	// rebalance. The load must also have changed by half of what was published, in loadRounds
	// measurements in a row.
	loadChange = 10
	loadRounds = 3
)

// meter measures how much is copied in each slot, averaged over the last half minute or so. It is
// pure.
type meter struct {
	rate    [slots]float64 // bytes per second
	told    int            // total units when it was last published
	changed int            // measurements in a row that differ much from told
}

// add records how many bytes were copied in an interval. It reports whether the others should learn
// the new load.
func (m *meter) add(bytes [slots]int64, interval time.Duration) (tell bool) {
	for slot, n := range bytes {
		m.rate[slot] = (3*m.rate[slot] + float64(n)/interval.Seconds()) / 4
	}
	now := m.units().sum()
	difference := max(now-m.told, m.told-now)
	if m.changed++; difference < loadChange || 2*difference < m.told {
		m.changed = 0
	}
	return m.changed >= loadRounds
}

func (m *meter) units() (l loads) {
	for slot, rate := range m.rate {
		l[slot] = uint16(min(rate/loadUnit, maxLoad))
	}
	return l
}

// say returns the load to publish.
func (m *meter) say() loads {
	l := m.units()
	m.told, m.changed = l.sum(), 0
	return l
}

// takeCopied returns how many bytes were appended in each slot since the last call.
func (r *Replicator) takeCopied() (bytes [slots]int64) {
	for _, m := range r.mirrorsNow() {
		for _, w := range m.all() {
			w.mu.Lock()
			bytes[w.slot] += w.copied
			w.copied = 0
			w.mu.Unlock()
		}
	}
	return bytes
}
