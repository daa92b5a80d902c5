package replicator

import (
	"klink/admin/model"
)

// lastStatus is the last known status of a mirror that this instance does not run now. It is from
// when this instance ran it, or was published since by the instance that owned it (board). It is
// only shown to people; the time of the last fetch says how old it is.
type lastStatus struct {
	mirrorKey
	partitions []model.PartitionStatus
}

// remember stores the status of a mirror: for each partition, the later of seen and what is stored.
func (r *Replicator) remember(topic string, key mirrorKey, seen []model.PartitionStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[topic]
	if last.mirrorKey == key {
		for p, s := range last.partitions {
			if p >= len(seen) {
				seen = append(seen, s)
			} else if s.LastFetch.After(seen[p].LastFetch) {
				seen[p] = s
			}
		}
	}
	if len(seen) > 0 {
		r.last[topic] = lastStatus{key, seen}
	}
}
