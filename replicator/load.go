package replicator

import "time"

const (
	// loadInterval is how often what is copied is measured.
	loadInterval = 10 * time.Second
	// loadAgain is how often at most an instance has the work shared anew because its load has
	// changed.
	loadAgain = 5 * time.Minute
	// loadChange is by how many units a load must have changed for that, beside by a half of what
	// was told, and loadRounds in how many measurements in a row.
	loadChange = 10
	loadRounds = 3
)

// meter is how much is copied in each slot, in the middle of the last half minute or so. It is
// pure.
type meter struct {
	rate    [slots]float64 // bytes per second
	told    int            // units in all, when it was told last
	changed int            // measurements in a row that differ much from that
}

// add takes how many bytes were copied in an interval. It says whether others should hear of what
// it has come to.
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

// say is what is told to others.
func (m *meter) say() loads {
	l := m.units()
	m.told, m.changed = l.sum(), 0
	return l
}

// takeCopied is how many bytes were appended in each slot since it was asked last.
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
