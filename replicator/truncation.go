package replicator

import (
	"fmt"

	"klink/admin"
)

// Has the source's log been truncated? This happens when a replica that lacks the latest records
// becomes leader (unclean.leader.election.enable, or a disk that lost what it had acknowledged), or
// when a backup is restored. The mirror then has records that the source has lost, and the source
// soon has new ones at the same offsets. The new log may be longer than the old one and have its
// batches at the same offsets, so offsets prove nothing. Leader epochs do (KIP-101, KIP-320): one
// leader has fixed the order of all batches of an epoch, and every replica that has one of them has
// the same log up to it. So
//
//	the source still has what was mirrored
//	<=>  it has the last batch that was seen, in the leader epoch it was seen in.
//
// Invariants:
//
//  1. partition.seen is the last batch of the source before fetchAt that has a leader epoch: a
//     batch of records, a marker, or one of an aborted transaction, whether or not it was appended.
//     done is the same for next, last for sure, and item.seen for the end of an item. The end of
//     such a batch is never above that offset. It is below where compaction or a log start have
//     made a hole. A hole is no sign of truncation, so the source's end offsets are compared with
//     the end of the batch, never with the position.
//  2. A fetch is sent only under the source's leader epoch (checked) in which seen was compared, or
//     from which it was read. The fetch names that epoch, so the broker refuses it
//     (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER) once another leader has
//     been elected. Under one leader epoch no log is truncated. So each fetch goes on where the
//     last one ended.
//  3. When the source turns out to be truncated, the partition first drops the items that are not
//     in flight, and then compares the batch before the new fetchAt instead. If the source lost
//     only what the mirror has not got yet, the mirror goes on.
//
// OffsetForLeaderEpoch answers with the largest epoch in the log that is not above the one asked
// for, and the offset at which the next epoch begins (the log's end, if there is none). The offset
// is exact for a log that is not compacted, and never too low: if batches were removed by
// compaction or are below the log start, the next epoch begins later, not sooner.
//
// Fetch has this check built in (LastFetchedEpoch, v12), for followers. But it also reports a
// diverging log if all batches of the epoch were compacted, and OFFSET_OUT_OF_RANGE if it does not
// know the epoch. A follower then truncates a little more than it has to, whereas a mirror would
// fail without need. Hence the separate request, which is sent once per leader epoch.

// unknownEpoch: no batch with a leader epoch was seen.
var unknownEpoch = epochEnd{-1, -1}

func (e epochEnd) known() bool { return e.epoch >= 0 && e.end >= 0 }

// whatToDo ends the message of a mirror whose source was truncated.
const whatToDo = "fail the mirror over to keep its records, or delete and re-create it to follow the source"

// neverChecked differs from every leader epoch, and from -1 for an unknown one.
const neverChecked = -2

// epochAnswer is what a source says about the batch that was seen.
type epochAnswer struct {
	// epochEnd is the answer of OffsetForLeaderEpoch to the epoch of the batch; unknown = the
	// source cannot tell.
	epochEnd
	// leader is the source's leader epoch that the broker answered for, -1 = unknown.
	leader int32
	// there is the leader epoch of the batch that now has the last offset of the one seen; -1 =
	// there is no such batch, or it was not looked up.
	there int32
}

// cannotTell is the answer of a source that does not know leader epochs.
var cannotTell = epochAnswer{unknownEpoch, -1, -1}

// needsLook reports whether the answer alone does not decide: the source does not know the epoch,
// but knows an older one that ends at or behind the end of the batch. Either all batches of the
// epoch were compacted before the present leader got its copy, or the present leader led in the
// older epoch and never saw the other one. The batch that stands there now decides.
func (a epochAnswer) needsLook(seen epochEnd) bool {
	return a.known() && a.epoch < seen.epoch && a.end >= seen.end
}

// truncated reports whether a source that answers a has lost the batch that was seen.
func (seen epochEnd) truncated(a epochAnswer) bool {
	switch {
	case !seen.known():
		return false
	case a.leader >= 0 && a.leader < seen.epoch:
		return true // epochs do not go back while a topic lives: it was created again
	case a.end < 0 || a.epoch > seen.epoch:
		return false // no answer
	case a.end < seen.end:
		return true
	}
	return a.needsLook(seen) && a.there >= 0 && a.there != seen.epoch
}

// mustCompare reports whether the source must be asked about seen before a fetch under its leader
// epoch.
func (p *partition) mustCompare(leader int32) bool { return p.seen.known() && p.checked != leader }

// compared takes the source's answer about seen, given under its leader epoch. It ends what
// beginFetch began.
func (p *partition) compared(gen uint32, leader int32, a epochAnswer) effects {
	none := effects{trim: -1}
	if gen != p.gen || !p.fetching {
		return none
	}
	p.fetching = false
	if !p.seen.truncated(a) {
		p.checked = leader
		return p.settle(none)
	}
	kept := p.done
	if p.flight > 0 {
		kept = p.queue[p.flight-1].seen
	}
	if p.seen != kept {
		p.drop()
		return none // kept is compared next
	}
	var lost string
	switch {
	case a.leader >= 0 && a.leader < p.seen.epoch:
		lost = fmt.Sprintf("its leader epoch is now %d", a.leader)
	case a.end >= p.seen.end:
		lost = fmt.Sprintf("it has other records there, of leader epoch %d", a.there)
	default:
		lost = fmt.Sprintf("it has that epoch up to offset %d", a.end)
	}
	p.doomed = failf(admin.ErrUnexpectedTruncation,
		"%s: the mirror ends at offset %d and has the source's records of leader epoch %d up to offset %d, but the source lost some of them (%s): "+
			"its log was truncated, by an unclean leader election or a restored backup, or the topic was re-created; "+whatToDo,
		p.name, p.fetchAt, p.seen.epoch, p.seen.end, lost)
	return p.settle(none)
}

// note records the leader epoch of a batch of the source that ends at the offset end, before
// fetchAt.
func (p *partition) note(epoch int32, end int64) {
	if epoch < 0 || end < p.seen.end {
		return
	}
	p.seen = epochEnd{epoch, end}
	if n := len(p.queue); n > 0 && p.queue[n-1].end() == end {
		p.queue[n-1].seen = p.seen
	}
}

// epochOf returns the leader epoch of a batch, -1 = unknown. In Kafka no batch has a higher epoch
// than the leader epoch of the fetch. A source that sends one does not use the epochs as Kafka
// does, so they are ignored.
func (f fetched) epochOf(batch int32) int32 {
	if f.epoch >= 0 && batch > f.epoch {
		return -1
	}
	return batch
}
