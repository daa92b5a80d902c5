package core

import "klink/protocol/batch"

// JoinRule says which batches of a partition may be appended as one. A broker takes one batch of a
// partition per request, and each waits for the followers, so a partition of small batches would be
// mirrored no faster than the followers answer.
//
// A batch that waits for nothing goes out as it came: only what has queued up behind an append in
// flight is joined. Records, offsets and timestamps stay the same, so the only difference that
// clients can see is where batches begin.
type JoinRule struct {
	Below int // batches of fewer bytes are joined; 0 = none
	Most  int // bytes of what they become, at most
}

// joinable returns how many items of the queue, counted from index from on, are to be appended as
// one batch; at least one.
func (p *Partition) joinable(from int, r JoinRule) int {
	queue := p.Queue[from:]
	first := &queue[0]
	if !p.waited && from == 0 || first.Markers() || len(first.Bytes) >= r.Below {
		return 1
	}
	n := 1
	for bytes := first.joinedSize(); n < len(queue); n++ {
		next := &queue[n]
		if next.Markers() || next.Base != queue[n-1].End() || len(next.Bytes) >= r.Below ||
			!batch.Joinable(first.Bytes, next.Bytes) {
			break
		}
		if bytes += next.joinedSize(); bytes > r.Most {
			break
		}
	}
	return n
}

// joinedSize returns the most that the item adds to a joined batch, in bytes: the deltas of its
// records become longer.
func (i *Item) joinedSize() int { return len(i.Bytes) + int(i.Records)*batch.JoinGrowth }
