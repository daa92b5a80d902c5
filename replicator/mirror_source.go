package replicator

import (
	"time"

	"klink/admin/model"
	"klink/replicator/core"
)

// A problem with the source's topic is believed once it was found suspicionCount times in a row,
// over suspicionTime: a broker with stale metadata may show an older state for a moment.
const (
	suspicionCount = 3
	suspicionTime  = 1200 * time.Millisecond
)

var zeroID [16]byte

// id returns the topic's id at the source, zero if it has none.
func (m *mirror) id() [16]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sourceID
}

// compare returns a failure if the source's topic is not the one mirrored, or has lost partitions.
func (m *mirror) compare(id [16]byte, partitions int) *core.Failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.sourceID != zeroID && id != zeroID && m.sourceID != id:
		return core.Failf(model.ErrSourceTopicIDChanged,
			"topic %q at the source was deleted and created again (its id changed); delete and re-create the mirror", m.sourceTopic)
	case partitions < m.size:
		return core.Failf(model.ErrSourcePartitionsDecrease,
			"topic %q has %d partitions at the source and %d in the mirror; delete and re-create the mirror", m.sourceTopic, partitions, m.size)
	}
	return nil
}

// suspect records a problem with the source's topic, and acts on it once it is confirmed. again is
// true while it is not.
func (m *mirror) suspect(f *core.Failure) (again bool) {
	m.mu.Lock()
	now := time.Now()
	if m.source.suspicion == nil || m.source.suspicion.Code != f.Code {
		m.source.suspected, m.source.suspectedSince = 0, now
	}
	m.source.suspicion = f
	m.source.suspected++
	if m.source.suspected < suspicionCount || now.Sub(m.source.suspectedSince) < suspicionTime {
		m.mu.Unlock()
		return true
	}
	missing := f.Code == model.ErrSourceTopicMayBeDeleted
	m.source.missing = missing
	m.mu.Unlock()
	if missing {
		m.r.wake()
	} else {
		m.fail(f)
	}
	return false
}

// clear records that the topic exists and is the right one.
func (m *mirror) clear(id [16]byte) {
	m.mu.Lock()
	changed := m.source.missing
	m.source.missing, m.source.suspicion, m.source.suspected = false, nil, 0
	if m.sourceID == zeroID {
		m.sourceID = id
	}
	m.mu.Unlock()
	if changed {
		m.r.wake()
	}
}

// mayFetch reports whether the last metadata showed the right topic. Otherwise nothing is fetched,
// so that no records of another topic of this name get into the mirror.
func (m *mirror) mayFetch() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.source.suspicion == nil && !m.stopping
}
