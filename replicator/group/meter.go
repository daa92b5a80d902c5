package group

import "time"

const (
	// LoadInterval is how often klink measures how much it copies.
	LoadInterval = 10 * time.Second
	// LoadAgain is the least time between two rebalances that an instance asks for because its load
	// has changed.
	LoadAgain = 5 * time.Minute
	// loadChange is the least change of a load, in units, for which an instance asks for a
	// rebalance. The load must also have changed by half of what was published, in loadRounds
	// measurements in a row.
	loadChange = 10
	loadRounds = 3
)

// Meter measures how much is copied in each slot, averaged over the last half minute or so. It is
// pure.
type Meter struct {
	rate    [Slots]float64 // bytes per second
	told    int            // total units when it was last published
	changed int            // measurements in a row that differ much from told
}

// Add records how many bytes were copied in an interval. It reports whether the others should learn
// the new load.
func (m *Meter) Add(bytes [Slots]int64, interval time.Duration) (tell bool) {
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

func (m *Meter) units() (l Loads) {
	for slot, rate := range m.rate {
		l[slot] = uint16(min(rate/loadUnit, maxLoad))
	}
	return l
}

// Say returns the load to publish.
func (m *Meter) Say() Loads {
	l := m.units()
	m.told, m.changed = l.sum(), 0
	return l
}
