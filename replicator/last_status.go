package replicator

import "klink/admin"

// lastStatus is what was last seen of a mirror that does not run here now: by this instance when it
// ran it, or by the instance that owned it since, as far as that has told (board). It is only
// shown, with the time of the last fetch that says how old it is.
type lastStatus struct {
	mirrorKey
	partitions []admin.PartitionStatus
}

// remember keeps what was seen of a mirror, for each partition the later of this and what is known.
func (r *Replicator) remember(topic string, key mirrorKey, seen []admin.PartitionStatus) {
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
